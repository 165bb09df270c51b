"""Lattice-free MMI, and the distillation of whole sequences over its denominator graph.

Both take the same graph (``kdcache.loss.denominator``), whose paths π of T frames have weights
w(π). With logits z, a path has the probability

    P_z(π) = w(π) exp Σ_t z_t(π_t) / Z_z

and a label sequence y that of its alignments together. Frame by frame constants of the logits
cancel, so that they need not be normalised.

lf_mmi        −log P_z(y), y the transcript; ∂/∂z_t = γ_den(t) − γ_num(t), where γ are the
              occupancies over all paths and over the alignments of y. (Povey et al. 2016.) Of
              pseudo-labels it is the semi-supervised form, with one best sequence for the lattice.
sequence_kd   KL(P_teacher ‖ P_student) over all paths, which is

                  Σ_t Σ_v γ^T_t(v) (z^T_t(v) − z^S_t(v)) − log Z^T + log Z^S

              with ∂/∂z^S_t = γ^S(t) − γ^T(t): the gradient of sequence distillation (Wong and
              Gales 2016, "Sequence student-teacher training of deep neural networks", on lattices).

Shapes: B batch, T frames, U labels, V classes with blank, the last.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import ctc_loss

from kdcache.errors import InputError
from kdcache.lattice.blocks import wide_dtype
from kdcache.lattice.lengths import parse_lengths
from kdcache.lattice.reduction import Reduction, reduce_utterances
from kdcache.loss.frames import SAME, FrameRatio
from kdcache.loss.graph_sum import graph_log_sum, graph_occupancy
from kdcache.loss.pairs import Group, Pairs, aligned_loss
from kdcache.loss.spread import spread_rest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from kdcache.batch import PosteriorBatch
    from kdcache.loss.denominator import Denominator


def lf_mmi_loss(
    logits_BTV: Tensor,
    frames_B: Tensor,
    labels_BU: Tensor,
    label_lengths_B: Tensor,
    graph: Denominator,
    reduction: Reduction = "mean",
) -> Tensor:
    """−log P(y | x) over the graph, in nats per utterance; never below 0 but for round-off.

    Args:
        logits_BTV: the student's, any floating dtype, blank last.
        frames_B: T of each utterance.
        labels_BU: the transcript's label ids.
        label_lengths_B: U of each utterance.
        graph: of the same labels.
        reduction: ``none`` for (B,), ``sum`` or ``mean`` over utterances.

    Returns:
        float64 for float64 logits, else float32. +inf for an utterance whose labels (and the
        blanks between equal ones) are more than its frames; NaN within its frames makes it NaN.
        The gradient is zero in padding.

    Raises:
        InputError: logits, lengths and graph do not fit.
        ConfigError: ``reduction`` is unknown.
    """
    all_B = graph_log_sum(logits_BTV, frames_B, graph)
    parse_lengths("label_lengths_B", label_lengths_B, len(logits_BTV), 0, labels_BU.shape[1])
    given_B = _alignments_log_sum(logits_BTV, frames_B, labels_BU, label_lengths_B)
    given_B = given_B + graph.label_log_probs(labels_BU, label_lengths_B)
    loss_B = (all_B - given_B).to(wide_dtype(logits_BTV.dtype))
    return reduce_utterances(loss_B, reduction)


def sequence_kl(
    logits_BTV: Tensor, teacher_BTV: Tensor, frames_B: Tensor, graph: Denominator
) -> Tensor:
    """KL of the teacher's distribution over paths against the student's: float64 (B,), nats.

    Args:
        logits_BTV: the student's; finite within the frames.
        teacher_BTV: the teacher's logits or log-probabilities, −inf for impossible; no gradient.
        frames_B: T of each utterance; 0 has the loss 0.
        graph: of the same labels.

    Raises:
        InputError: logits, lengths and graph do not fit.
    """
    if teacher_BTV.shape != logits_BTV.shape:
        raise InputError(
            f"Student logits have shape {tuple(logits_BTV.shape)}, the teacher's "
            f"{tuple(teacher_BTV.shape)}; expected equal shapes."
        )
    teacher_B, occupancy_BTV = graph_occupancy(teacher_BTV, frames_B, graph)
    student_B = graph_log_sum(logits_BTV, frames_B, graph)
    # Where the teacher never is, and in padding, neither side is read, nor has a gradient.
    never_BTV = occupancy_BTV == 0
    apart_BTV = teacher_BTV.detach().double().masked_fill(never_BTV, 0.0)
    apart_BTV = apart_BTV - logits_BTV.double().masked_fill(never_BTV, 0.0)
    return (occupancy_BTV * apart_BTV).sum((1, 2)) - teacher_B + student_B


def aligned_sequence_kd(
    logits_BTV: Tensor,
    frames_B: Tensor,
    target: PosteriorBatch,
    graph: Denominator,
    ratio: FrameRatio = SAME,
    shifts: Sequence[int] = (0,),
    group: Group = "mean",
    reduction: Reduction = "mean",
    ids: Sequence[str] | None = None,
) -> Tensor:
    """:func:`sequence_kl` from cached frame posteriors, the rest spread over what was not kept.

    Where frames are not the same (see ``kdcache.loss.pairs``) the paths are those over the pairs of
    frames that count, so that a slower student's frames are each held for as many of the teacher's.

    Args:
        logits_BTV: the student's, any floating dtype, blank last.
        frames_B: T of the student.
        target: the teacher's classes of each of its frames.
        graph: of the same labels.
        ratio: frames of the teacher to frames of the student.
        shifts: the time shift in frames of the student; of several each utterance has the best.
        group: what a frame of a slower student learns from.
        reduction: ``none`` for (B,), ``sum`` or ``mean`` over utterances.
        ids: names for the error.

    Returns:
        Nats per utterance, float64 for float64 logits, else float32.

    Raises:
        SpecMismatchError: lengths differ by more than rounding, by name.
        InputError: student, target and graph do not fit otherwise.
        ConfigError: no shift, or an unknown choice.
    """
    _check_ids(target, logits_BTV.shape[-1])

    def loss_of(pairs: Pairs) -> Tensor:
        paired = replace(
            target,
            logp_BNC=pairs.of_teacher(target.logp_BNC),
            ids_BNK=pairs.of_teacher(target.ids_BNK),
        )
        teacher_BPV = _dense(paired, logits_BTV.shape[-1])
        return sequence_kl(pairs.of_student(logits_BTV), teacher_BPV, pairs.counts_B, graph)

    lengths = (target.lengths_B, frames_B)
    loss_B = aligned_loss(loss_of, *lengths, ratio, shifts, group, "none", ids)
    return reduce_utterances(loss_B.to(wide_dtype(logits_BTV.dtype)), reduction)


def _alignments_log_sum(
    logits_BTV: Tensor, frames_B: Tensor, labels_BU: Tensor, label_lengths_B: Tensor
) -> Tensor:
    """log Σ exp Σ_t z_t(π_t) over the alignments of each label sequence: float64 (B,)."""
    frames = logits_BTV.shape[1]
    real_BT = torch.arange(frames, device=frames_B.device) < frames_B[:, None]
    wide_BTV = logits_BTV.double().masked_fill(~real_BT[..., None], 0.0)
    per_frame_BT = wide_BTV.logsumexp(-1)
    nll_B = ctc_loss(
        (wide_BTV - per_frame_BT[..., None]).transpose(0, 1),
        labels_BU,
        frames_B,
        label_lengths_B,
        blank=logits_BTV.shape[2] - 1,
        reduction="none",
    )
    return (per_frame_BT * real_BT).sum(1) - nll_B


def _dense(target: PosteriorBatch, classes: int) -> Tensor:
    """Log-probabilities of every class, float64 (B, N, V)."""
    flat = target.logp_BNC.double().flatten(0, 1), target.ids_BNK.flatten(0, 1)
    return spread_rest(*flat, classes, target.tail).view(*target.ids_BNK.shape[:2], classes)


def _check_ids(target: PosteriorBatch, classes: int) -> None:
    if target.ids_BNK.numel() and int(target.ids_BNK.max()) >= classes:
        raise InputError(
            f"Class id {int(target.ids_BNK.max())} is outside the vocabulary of {classes} "
            "classes. Student and teacher must share one tokenizer."
        )
