"""Log-probabilities of a few classes of each node, and of all the others as one.

A lattice of logits (B, T, U+1, V) is the largest thing in transducer training. Everything
that this project does with it, the RNN-T loss and the distillation losses alike, needs only a
few classes of each node and what is left for the rest. So there is one function that reads
the vocabulary, once in each direction, and it is exact where a shortcut is not: the rest is a
log-sum-exp over the other classes, never 1 − sum, so a rest of 1e−30 keeps all its digits.

Mathematics. With kept classes k, rest R, a_R = logsumexp_{v∈R} z_v, a = logsumexp_v z_v:
log p_k = z_k − a and log p_R = a_R − a. For gradients g_c of those outputs, and G = Σ_c g_c,

    ∂/∂z_k = g_k − p_k G            ∂/∂z_v = exp(z_v − a_R) · (g_R − p_R G),  v ∈ R,

where exp(z_v − a_R) ≤ 1 is the softmax within the rest: nothing here can overflow.

Memory: the forward pass keeps (B, T, U+1, K+2) beside a reference to the logits; the backward
pass allocates the gradient, and both work block by block in a bounded scratch.

Shapes: B batch, T encoder frames, U labels, V vocabulary with blank, K kept class ids,
C = K+1 classes, rest last.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

from kdcache.errors import InputError
from kdcache.lattice.lengths import parse_extents

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from torch import Tensor

Extents = list[tuple[int, int]]
Block = tuple[int, slice, slice]

BLOCK_ELEMENTS = {"cpu": 1 << 18, "cuda": 1 << 25}
"""Logits per block: on a CPU what stays in cache, on a GPU what fills it."""


def class_log_probs(
    logits_BTUV: Tensor,
    ids_BTUK: Tensor,
    frames_B: Tensor | None = None,
    label_lengths_B: Tensor | None = None,
) -> Tensor:
    """Log-probabilities of chosen classes and of the rest, differentiable in the logits.

    Args:
        logits_BTUV: any floating dtype. It may be padded further than ``ids_BTUK``.
        ids_BTUK: int64 class ids (may be an expanded view), distinct within a node; negative
            where there is no such class, but never in slot 0.
        frames_B: T of each utterance; ``None`` means no padding in time.
        label_lengths_B: U of each utterance; ``None`` means no padding in labels.

    Returns:
        (B, T, U+1, K+1) in the shape of ``ids_BTUK``, natural logarithms, rest last: float64
        for float64 logits, else float32. A class that does not exist has −inf and passes no
        gradient on. Padding is 0. NaN logits give NaN at their node only.

    Raises:
        InputError: shapes or lengths do not fit, or an id is outside the vocabulary.
    """
    if logits_BTUV.dim() != 4 or not logits_BTUV.is_floating_point():
        raise InputError(
            f"Logits are {logits_BTUV.dtype} of shape {tuple(logits_BTUV.shape)}; expected a "
            "floating dtype and shape (batch, frames, labels + 1, vocabulary)."
        )
    check_room(logits_BTUV.shape, ids_BTUK)
    extents = parse_extents(frames_B, label_lengths_B, ids_BTUK.shape)
    return reduce_classes(logits_BTUV, ids_BTUK, extents)


def reduce_classes(logits_BTUV: Tensor, ids_BTUK: Tensor, extents: Extents) -> Tensor:
    """:func:`class_log_probs` of what is known to fit.

    Args:
        logits_BTUV: as there.
        ids_BTUK: as there.
        extents: real (T, U+1) of each utterance.
    """
    logp_BTUC: Tensor = _ClassLogProbs.apply(logits_BTUV, ids_BTUK, extents)  # type: ignore[no-untyped-call]
    return logp_BTUC


def check_room(room: torch.Size, ids_BTUK: Tensor) -> None:
    """That logits of shape ``room``, (B, ≥ T, ≥ U+1, V), hold the nodes and classes of the ids.

    Raises:
        InputError: they do not.
    """
    need = ids_BTUK.shape
    if len(need) != 4 or room[0] != need[0] or room[1] < need[1] or room[2] < need[2]:
        raise InputError(
            f"Logits of shape {tuple(room)} cannot hold the nodes of the target or labels, whose "
            f"shape is {tuple(need[:3])} (batch, frames, labels + 1). Student and teacher must "
            "have the same frames and labels."
        )
    if ids_BTUK.numel() and int(ids_BTUK.max()) >= room[3]:
        raise InputError(
            f"Class id {int(ids_BTUK.max())} is outside the vocabulary of {room[3]} classes. "
            "Student and teacher must share one tokenizer."
        )


def node_blocks(extents: Extents, row_elements: int, device: torch.device) -> Iterator[Block]:
    """Cut the real nodes into blocks (utterance, frames, columns) of bounded size.

    Args:
        extents: (T, U+1) of each utterance.
        row_elements: elements of one node, such as V.
        device: where they are; decides the block's size.
    """
    budget = BLOCK_ELEMENTS.get(device.type, BLOCK_ELEMENTS["cuda"])
    for row, (frames, columns) in enumerate(extents):
        step = max(1, budget // max(1, columns * row_elements))
        for start in range(0, frames, step):
            yield row, slice(start, min(start + step, frames)), slice(0, columns)


def empty_gradient(logits_BTUV: Tensor, extents: Extents) -> Tensor:
    """An uninitialised gradient of the logits, with zeros in the padding only."""
    grad_BTUV = torch.empty(logits_BTUV.shape, dtype=logits_BTUV.dtype, device=logits_BTUV.device)
    for row, (frames, columns) in enumerate(extents):
        grad_BTUV[row, frames:] = 0
        grad_BTUV[row, :frames, columns:] = 0
    return grad_BTUV


def wide_dtype(dtype: torch.dtype) -> torch.dtype:
    """What is computed in: float64 for float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


@cache
def kernels(device: str) -> ModuleType | None:
    """``class_kernels.py`` where it runs: on NVIDIA and AMD GPUs, with Triton installed."""
    if device != "cuda" or find_spec("triton") is None:
        return None
    return import_module("kdcache.lattice.class_kernels")


class _ClassLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits_BTUV: Tensor, ids_BTUK: Tensor, extents: Extents) -> Tensor:
        passes = kernels(logits_BTUV.device.type) or _InTorch
        logp_BTUC, rest_BTU = passes.collapse(
            logits_BTUV, ids_BTUK, extents, wide_dtype(logits_BTUV.dtype)
        )
        ctx.extents = extents
        ctx.save_for_backward(logits_BTUV, ids_BTUK, logp_BTUC, rest_BTU)
        return logp_BTUC

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BTUC: Tensor) -> tuple[Tensor | None, None, None]:
        logits_BTUV, ids_BTUK, logp_BTUC, rest_BTU = ctx.saved_tensors
        # A class that does not exist is −inf whatever the logits are.
        grad_BTUC = grad_BTUC.masked_fill(logp_BTUC.isneginf(), 0.0)
        slope_BTUC = grad_BTUC - logp_BTUC.exp() * grad_BTUC.sum(-1, keepdim=True)
        rest_BTU = rest_BTU.masked_fill(rest_BTU.isneginf(), 0.0)
        passes = kernels(logits_BTUV.device.type) or _InTorch
        out_BTUV = passes.spread(logits_BTUV, ids_BTUK, ctx.extents, rest_BTU, slope_BTUC)
        return out_BTUV, None, None


class _InTorch:
    """The two passes over the vocabulary, block by block; documented in ``class_kernels.py``."""

    @staticmethod
    def collapse(
        logits_BTUV: Tensor, ids_BTUK: Tensor, extents: Extents, wide: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        kept = ids_BTUK.shape[3]
        logp_BTUC = logits_BTUV.new_zeros((*ids_BTUK.shape[:3], kept + 1), dtype=wide)
        rest_BTU = torch.zeros_like(logp_BTUC[..., 0])
        for block in node_blocks(extents, logits_BTUV.shape[3], logits_BTUV.device):
            z_TUC = _collapse(logits_BTUV[block].to(wide), ids_BTUK[block])
            rest_BTU[block] = z_TUC[..., kept]
            logp_BTUC[block] = z_TUC - z_TUC.logsumexp(-1, keepdim=True)
        return logp_BTUC, rest_BTU

    @staticmethod
    def spread(
        logits_BTUV: Tensor,
        ids_BTUK: Tensor,
        extents: Extents,
        rest_BTU: Tensor,
        slope_BTUC: Tensor,
    ) -> Tensor:
        out_BTUV = empty_gradient(logits_BTUV, extents)
        for block in node_blocks(extents, logits_BTUV.shape[3], logits_BTUV.device):
            part_TUV = logits_BTUV[block].to(slope_BTUC.dtype)
            same = out_BTUV.dtype == slope_BTUC.dtype
            out_TUV = out_BTUV[block] if same else torch.empty_like(part_TUV)
            _spread(part_TUV, ids_BTUK[block], rest_BTU[block], slope_BTUC[block], out_TUV)
            if not same:
                out_BTUV[block] = out_TUV
        return out_BTUV


def _collapse(logits_TUV: Tensor, ids_TUK: Tensor) -> Tensor:
    """Logits of the kept classes and the log-sum-exp of the others: (T, U, K+1)."""
    kept_TUK = logits_TUV.gather(-1, ids_TUK.clamp(min=0)).masked_fill_(ids_TUK < 0, -torch.inf)
    others_TUV = logits_TUV.scatter(-1, _present(ids_TUK), -torch.inf)
    return torch.cat([kept_TUK, others_TUV.logsumexp(-1, keepdim=True)], -1)


def _spread(
    logits_TUV: Tensor, ids_TUK: Tensor, rest_TU: Tensor, slope_TUC: Tensor, out_TUV: Tensor
) -> None:
    """Write the gradient of one block: softmax within the rest, then the kept classes."""
    kept = ids_TUK.shape[2]
    torch.sub(logits_TUV, rest_TU[..., None], out=out_TUV)
    out_TUV.exp_().mul_(slope_TUC[..., kept:])
    # Slots without a class repeat slot 0, index and value: every write to it is the same.
    slope_TUK = torch.where(ids_TUK < 0, slope_TUC[..., :1], slope_TUC[..., :kept])
    out_TUV.scatter_(-1, _present(ids_TUK), slope_TUK)


def _present(ids_TUK: Tensor) -> Tensor:
    """Class ids with slot 0's in the place of those that do not exist."""
    return torch.where(ids_TUK < 0, ids_TUK[..., :1], ids_TUK)
