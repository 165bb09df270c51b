"""Predicting the entries of codebooks that a teacher's vectors were packed by.

Guo et al., "Predicting Multi-Codebook Vector Quantization Indexes for Knowledge Distillation"
(arXiv 2211.00508): instead of coming near a vector the student says which entry of each codebook
it is a sum of,

    L = − Σ_t Σ_q log p_q(i_tq | t),

with p_q the softmax over a projection of the student's own hidden state, one for each codebook.

Shapes: B batch, T frames, Q codebooks, E entries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cross_entropy

from kdcache.errors import InputError
from kdcache.lattice.lengths import parse_lengths
from kdcache.lattice.reduction import Reduction, reduce_utterances
from kdcache.loss.normalise import SequenceNormalise, normalise_sequence

if TYPE_CHECKING:
    from torch import Tensor

    from kdcache.batch import VectorBatch


def codebook_cross_entropy(
    logits_BTQE: Tensor,
    target: VectorBatch,
    reduction: Reduction = "mean",
    normalise: SequenceNormalise = "none",
) -> Tensor:
    """Cross-entropy of the teacher's entries, summed over codebooks and frames.

    Args:
        logits_BTQE: the student's, any floating dtype; it may be padded further than the target.
        target: the teacher's entries and lengths.
        reduction: ``none`` for (B,), ``sum`` or ``mean`` over utterances.
        normalise: nats per utterance (``none``) or per frame (``length``).

    Returns:
        float64 for float64 logits, else float32. The gradient is zero in padding, which is not
        read; NaN within a length makes its utterance NaN.

    Raises:
        InputError: student and target do not fit, or the target was not packed by codebooks.
        ConfigError: ``reduction`` or ``normalise`` is unknown.
    """
    codes_BTQ = _check(logits_BTQE, target)
    frames = codes_BTQ.shape[1]
    t_T = torch.arange(frames, device=logits_BTQE.device)
    padding_BT = t_T >= target.lengths_B[:, None]
    logits_BTQE = logits_BTQE[:, :frames]
    wide = torch.promote_types(logits_BTQE.dtype, torch.float32)
    # Padding goes first, so that a NaN there has no gradient either.
    clean = logits_BTQE.to(wide).masked_fill(padding_BT[..., None, None], 0.0)
    ids_BTQ = codes_BTQ.masked_fill(padding_BT[..., None], -1)
    loss_BTQ = cross_entropy(clean.movedim(-1, 1), ids_BTQ, ignore_index=-1, reduction="none")
    loss_B = normalise_sequence(loss_BTQ.sum((1, 2)), target.lengths_B, normalise)
    return reduce_utterances(loss_B, reduction)


def entries_of(target: VectorBatch) -> Tensor:
    """The teacher's entries, int64 (B, T, Q).

    Raises:
        InputError: the target was not packed by codebooks.
    """
    if target.codes_BTQ is None:
        raise InputError(
            "The target was not packed by codebooks; extract it with codec codebooks, or learn "
            "its vectors with vector_mse."
        )
    return target.codes_BTQ


def _check(logits_BTQE: Tensor, target: VectorBatch) -> Tensor:
    """The entries, where all fits."""
    codes_BTQ = entries_of(target)
    got, need = logits_BTQE.shape, codes_BTQ.shape
    fits = len(got) == 4 and got[0] == need[0] and got[2] == need[2]
    if not fits or got[1] < need[1]:
        raise InputError(
            f"Student logits have shape {tuple(got)}, the target's entries {tuple(need)}; expected "
            "(batch, frames, codebooks, entries) of equal batch and codebooks, and at least as "
            "many frames."
        )
    parse_lengths("lengths_B", target.lengths_B, need[0], 0, need[1])
    largest = int(codes_BTQ.max()) if codes_BTQ.numel() else -1
    if largest >= got[3]:
        raise InputError(
            f"The target has entry {largest} of a codebook, the student logits for {got[3]}."
        )
    return codes_BTQ
