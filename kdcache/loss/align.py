"""Losses over frames for a student whose frames are not its teacher's; see ``kdcache.loss.pairs``.

Shapes: B batch, T frames, V vocabulary, D width, Q codebooks, E entries.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from kdcache.lattice.reduction import Reduction, reduce_utterances
from kdcache.loss.codebooks import codebook_cross_entropy, entries_of
from kdcache.loss.frames import SAME, FrameRatio
from kdcache.loss.pairs import Group, Pairs, aligned_loss
from kdcache.loss.posterior import posterior_kl
from kdcache.loss.vector import vector_mse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from kdcache.batch import PosteriorBatch, VectorBatch
    from kdcache.loss.normalise import SequenceNormalise
    from kdcache.loss.posterior import Rest


def aligned_posterior_kl(
    logits_BTV: Tensor,
    frames_B: Tensor,
    target: PosteriorBatch,
    ratio: FrameRatio = SAME,
    shifts: Sequence[int] = (0,),
    group: Group = "mean",
    reduction: Reduction = "mean",
    normalise: SequenceNormalise = "none",
    rest: Rest = "joined",
    temperature: float = 1.0,
    ids: Sequence[str] | None = None,
) -> Tensor:
    """KL of a teacher's frame posteriors against a student with frames of its own.

    Equal to :func:`posterior_kl` for equal rates and lengths and no shift.

    Args:
        logits_BTV: the student's, any floating dtype.
        frames_B: T of the student, int64.
        target: the teacher's classes of each of its frames.
        ratio: frames of the teacher to frames of the student.
        shifts: the time shift in frames of the student; of several, in increasing order, each
            utterance has the best.
        group: what a frame of a slower student learns from.
        reduction: ``none`` for (B,), ``sum`` or ``mean`` over utterances.
        normalise: nats per utterance (``none``) or per frame that counts (``length``).
        rest: see :func:`posterior_kl`.
        temperature: see :func:`posterior_kl`.
        ids: names for the error.

    Raises:
        SpecMismatchError: lengths differ by more than rounding, by name.
        InputError: student and target do not fit otherwise.
        ConfigError: no shift, or an unknown choice.
    """

    def loss_of(pairs: Pairs) -> Tensor:
        paired = replace(
            target,
            logp_BNC=pairs.of_teacher(target.logp_BNC),
            ids_BNK=pairs.of_teacher(target.ids_BNK),
            lengths_B=pairs.counts_B,
        )
        logits = pairs.of_student(logits_BTV)
        return posterior_kl(logits, paired, temperature, reduction="none", rest=rest)

    lengths = (target.lengths_B, frames_B)
    loss_B = aligned_loss(loss_of, *lengths, ratio, shifts, group, normalise, ids)
    return reduce_utterances(loss_B, reduction)


def aligned_vector_mse(
    values_BTD: Tensor,
    frames_B: Tensor,
    target: VectorBatch,
    ratio: FrameRatio = SAME,
    shifts: Sequence[int] = (0,),
    group: Group = "mean",
    reduction: Reduction = "mean",
    normalise: SequenceNormalise = "none",
    ids: Sequence[str] | None = None,
) -> Tensor:
    """Squared error from a teacher's vectors of a student with frames of its own.

    Equal to :func:`vector_mse` for equal rates and lengths and no shift; arguments and errors are
    those of :func:`aligned_posterior_kl`. With ``group="mean"`` and a faster teacher the value
    holds the spread of the teacher's vectors within a group as well, which no student can lower.

    Args:
        values_BTD: the student's, already projected to the teacher's width.
        frames_B: T of the student, int64.
        target: the teacher's vectors.
        ratio: frames of the teacher to frames of the student.
        shifts: the time shift in frames of the student, or several to choose from.
        group: what a frame of a slower student learns from.
        reduction: ``none`` for (B,), ``sum`` or ``mean`` over utterances.
        normalise: per utterance (``none``) or per frame that counts (``length``).
        ids: names for the error.
    """

    def loss_of(pairs: Pairs) -> Tensor:
        paired = replace(
            target, values_BTD=pairs.of_teacher(target.values_BTD), lengths_B=pairs.counts_B
        )
        return vector_mse(pairs.of_student(values_BTD), paired, reduction="none")

    lengths = (target.lengths_B, frames_B)
    loss_B = aligned_loss(loss_of, *lengths, ratio, shifts, group, normalise, ids)
    return reduce_utterances(loss_B, reduction)


def aligned_codebook_cross_entropy(
    logits_BTQE: Tensor,
    frames_B: Tensor,
    target: VectorBatch,
    ratio: FrameRatio = SAME,
    shifts: Sequence[int] = (0,),
    group: Group = "mean",
    reduction: Reduction = "mean",
    normalise: SequenceNormalise = "none",
    ids: Sequence[str] | None = None,
) -> Tensor:
    """Cross-entropy of a teacher's entries of a student with frames of its own.

    Equal to :func:`codebook_cross_entropy` for equal rates and lengths and no shift; arguments and
    errors are those of :func:`aligned_vector_mse`.

    Args:
        logits_BTQE: the student's, any floating dtype.
        frames_B: T of the student, int64.
        target: the teacher's entries.
        ratio: frames of the teacher to frames of the student.
        shifts: the time shift in frames of the student, or several to choose from.
        group: what a frame of a slower student learns from.
        reduction: ``none`` for (B,), ``sum`` or ``mean`` over utterances.
        normalise: nats per utterance (``none``) or per frame that counts (``length``).
        ids: names for the error.
    """
    codes_BTQ = entries_of(target)

    def loss_of(pairs: Pairs) -> Tensor:
        paired = replace(target, codes_BTQ=pairs.of_teacher(codes_BTQ), lengths_B=pairs.counts_B)
        return codebook_cross_entropy(pairs.of_student(logits_BTQE), paired, reduction="none")

    lengths = (target.lengths_B, frames_B)
    loss_B = aligned_loss(loss_of, *lengths, ratio, shifts, group, normalise, ids)
    return reduce_utterances(loss_B, reduction)
