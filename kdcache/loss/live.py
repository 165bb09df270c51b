"""Controls with the teacher in the process: what the losses on a cache must equal.

``live_lattice_kl`` collapses the teacher's logits as a cache would, but packs nothing: the
cached loss must equal it within the codec's bound, in value and gradient. ``full_lattice_kl``
collapses nothing: it is what a top-k lattice approaches as k grows.

Shapes: B batch, T encoder frames, U labels (a node axis has U+1 entries), V vocabulary with
blank, K kept class ids, S columns of a frame's window.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from kdcache.batch import LatticeBatch
from kdcache.errors import InputError
from kdcache.lattice import (
    BandRule,
    class_log_probs,
    forward_backward,
    node_ids,
    node_log_probs,
    node_occupancy,
    top_classes,
)
from kdcache.lattice.banded import at_band, band_ids
from kdcache.lattice.blocks import empty_gradient, node_blocks, wide_dtype
from kdcache.lattice.lengths import parse_extents
from kdcache.lattice.reduction import Reduction, reduce_utterances
from kdcache.loss.divergence import class_kl
from kdcache.loss.lattice import lattice_kl
from kdcache.loss.normalise import LatticeNormalise, normalise_lattice

if TYPE_CHECKING:
    from torch import Tensor

    from kdcache.lattice.blocks import Extents


def collapse_lattice(
    teacher_logits_BTUV: Tensor,
    labels_BU: Tensor,
    frames_B: Tensor,
    label_lengths_B: Tensor,
    blank: int,
    top_k: int = 0,
    band: BandRule | None = None,
) -> LatticeBatch:
    """The lattice target of a live teacher, unpacked: blank, label, ``top_k`` more, rest.

    Args:
        teacher_logits_BTUV: any floating dtype.
        labels_BU: int64, (B, ≥ U); what lies beyond a length is ignored.
        frames_B: T of each utterance.
        label_lengths_B: U of each utterance.
        blank: class id of blank.
        top_k: K, the most probable classes of each node beside blank and label.
        band: how wide a band to keep; ``None`` keeps the whole lattice.

    Raises:
        InputError: shapes, lengths or class ids do not fit, or a band is asked for where the
            logits are NaN or give the labels no probability.
    """
    lengths = (frames_B, label_lengths_B)
    with torch.no_grad():
        if band is None or band.is_whole:
            starts_BT, widths_B, logits_BTSV = None, label_lengths_B + 1, teacher_logits_BTUV
            ids_BTSK = node_ids(labels_BU, blank, logits_BTSV.shape, label_lengths_B)
        else:
            arcs = node_log_probs(teacher_logits_BTUV, labels_BU, blank, *lengths)
            starts_BT, widths_B = _choose_bands(*arcs, *lengths, band)
            logits_BTSV = at_band(teacher_logits_BTUV, starts_BT, int(widths_B.max()))
            ids_BTSK = band_ids(labels_BU, blank, logits_BTSV.shape, starts_BT, label_lengths_B)
        more_BTSK = top_classes(logits_BTSV, ids_BTSK, top_k)
        kept_BTSK = torch.cat([ids_BTSK, more_BTSK], -1)
        logp_BTSC = class_log_probs(logits_BTSV, kept_BTSK, frames_B, widths_B - 1)
    return LatticeBatch(logp_BTSC, more_BTSK, frames_B, label_lengths_B, starts_BT)


def live_lattice_kl(
    student_logits_BTUV: Tensor,
    teacher_logits_BTUV: Tensor,
    labels_BU: Tensor,
    frames_B: Tensor,
    label_lengths_B: Tensor,
    blank: int,
    top_k: int = 0,
    reduction: Reduction = "mean",
    normalise: LatticeNormalise = "none",
    band: BandRule | None = None,
) -> Tensor:
    """:func:`kdcache.loss.lattice_kl` against a live teacher; no gradient flows to it.

    Args:
        student_logits_BTUV: any floating dtype.
        teacher_logits_BTUV: of the same shape.
        labels_BU: int64, (B, ≥ U); what lies beyond a length is ignored.
        frames_B: T of each utterance.
        label_lengths_B: U of each utterance.
        blank: class id of blank.
        top_k: K, classes kept beside blank and label; 0 is arXiv 2011.06110.
        reduction: ``none`` for (B,), ``sum`` or ``mean`` over utterances.
        normalise: nats per utterance (``none``), per label or per node that is summed.
        band: how wide a band of the lattice is compared; ``None`` compares all of it.

    Raises:
        InputError: as :func:`collapse_lattice`.
        ConfigError: ``reduction`` or ``normalise`` is unknown.
    """
    _check_same_shape(student_logits_BTUV, teacher_logits_BTUV)
    target = collapse_lattice(
        teacher_logits_BTUV, labels_BU, frames_B, label_lengths_B, blank, top_k, band
    )
    return lattice_kl(student_logits_BTUV, target, labels_BU, blank, reduction, normalise)


def full_lattice_kl(
    student_logits_BTUV: Tensor,
    teacher_logits_BTUV: Tensor,
    frames_B: Tensor,
    label_lengths_B: Tensor,
    reduction: Reduction = "mean",
    normalise: LatticeNormalise = "none",
) -> Tensor:
    """KL over the whole vocabulary, summed over real nodes; no gradient flows to the teacher.

    The gradient by a student's logit is p_v − q_v. Memory: the gradient, and a bounded scratch.

    Args:
        student_logits_BTUV: any floating dtype.
        teacher_logits_BTUV: of the same shape.
        frames_B: T of each utterance.
        label_lengths_B: U of each utterance.
        reduction: ``none`` for (B,), ``sum`` or ``mean`` over utterances.
        normalise: nats per utterance (``none``), per label or per node.

    Raises:
        InputError: shapes or lengths do not fit.
        ConfigError: ``reduction`` or ``normalise`` is unknown.
    """
    _check_same_shape(student_logits_BTUV, teacher_logits_BTUV)
    extents = parse_extents(frames_B, label_lengths_B, student_logits_BTUV.shape)
    loss_B: Tensor = _FullKL.apply(student_logits_BTUV, teacher_logits_BTUV, extents)  # type: ignore[no-untyped-call]
    nodes_B = frames_B * (label_lengths_B + 1)
    loss_B = normalise_lattice(loss_B, label_lengths_B, nodes_B, normalise)
    return reduce_utterances(loss_B, reduction)


def _choose_bands(
    blank_BTU: Tensor,
    label_BTU: Tensor,
    frames_B: Tensor,
    label_lengths_B: Tensor,
    rule: BandRule,
) -> tuple[Tensor, Tensor]:
    """Starts (B, T), 0 in padding, and widths (B,) of each utterance's own band; int64."""
    found = forward_backward(blank_BTU, label_BTU, frames_B, label_lengths_B)
    occupancy_BTU = node_occupancy(found).cpu().numpy()
    starts_BT = np.zeros(occupancy_BTU.shape[:2], np.int64)
    widths_B = np.zeros(len(starts_BT), np.int64)
    extents = parse_extents(frames_B, label_lengths_B, occupancy_BTU.shape)
    for row, (frames, columns) in enumerate(extents):
        band = rule.choose(occupancy_BTU[row, :frames, :columns])
        starts_BT[row, :frames], widths_B[row] = band.starts_T, band.width
    device = blank_BTU.device
    return torch.from_numpy(starts_BT).to(device), torch.from_numpy(widths_B).to(device)


def _check_same_shape(student_logits_BTUV: Tensor, teacher_logits_BTUV: Tensor) -> None:
    if student_logits_BTUV.shape != teacher_logits_BTUV.shape or student_logits_BTUV.dim() != 4:
        raise InputError(
            f"Student logits have shape {tuple(student_logits_BTUV.shape)}, the teacher's "
            f"{tuple(teacher_logits_BTUV.shape)}; expected the same (batch, frames, labels + 1, "
            "vocabulary)."
        )


class _FullKL(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, student_BTUV: Tensor, teacher_BTUV: Tensor, extents: Extents) -> Tensor:
        wide = wide_dtype(student_BTUV.dtype)
        loss_B = student_BTUV.new_zeros(student_BTUV.shape[0], dtype=wide)
        for block in node_blocks(extents, student_BTUV.shape[3], student_BTUV.device):
            student_TUV = student_BTUV[block].to(wide).log_softmax(-1)
            teacher_TUV = teacher_BTUV[block].to(wide).log_softmax(-1)
            loss_B[block[0]] += class_kl(teacher_TUV, student_TUV).sum()
        ctx.extents = extents
        ctx.save_for_backward(student_BTUV, teacher_BTUV)
        return loss_B

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_B: Tensor) -> tuple[Tensor, None, None]:
        student_BTUV, teacher_BTUV = ctx.saved_tensors
        out_BTUV = empty_gradient(student_BTUV, ctx.extents)
        for block in node_blocks(ctx.extents, student_BTUV.shape[3], student_BTUV.device):
            p_TUV = student_BTUV[block].to(grad_B.dtype).softmax(-1)
            q_TUV = teacher_BTUV[block].to(grad_B.dtype).softmax(-1)
            out_BTUV[block] = (p_TUV.sub_(q_TUV).mul_(grad_B[block[0]])).to(out_BTUV.dtype)
        return out_BTUV, None, None
