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
pass allocates the gradient. Both work block by block in a bounded scratch (``class_blocks.py``) or,
on a GPU with Triton, node by node in registers (``class_kernels.py``).

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
from kdcache.lattice import class_blocks
from kdcache.lattice.blocks import wide_dtype
from kdcache.lattice.lengths import parse_extents

if TYPE_CHECKING:
    from types import ModuleType

    from torch import Tensor

    from kdcache.lattice.blocks import Extents


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


@cache
def passes(device: str) -> ModuleType:
    """What reads the vocabulary: Triton kernels on a GPU, where Triton is installed, else torch."""
    if device == "cuda" and find_spec("triton") is not None:
        return import_module("kdcache.lattice.class_kernels")
    return class_blocks


class _ClassLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits_BTUV: Tensor, ids_BTUK: Tensor, extents: Extents) -> Tensor:
        logp_BTUC, rest_BTU = passes(logits_BTUV.device.type).collapse(
            logits_BTUV, ids_BTUK, extents, wide_dtype(logits_BTUV.dtype)
        )
        ctx.extents = extents
        ctx.save_for_backward(logits_BTUV, ids_BTUK, logp_BTUC, rest_BTU)
        out_BTUC: Tensor = logp_BTUC
        return out_BTUC

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BTUC: Tensor) -> tuple[Tensor | None, None, None]:
        logits_BTUV, ids_BTUK, logp_BTUC, rest_BTU = ctx.saved_tensors
        # A class that does not exist is −inf whatever the logits are.
        grad_BTUC = grad_BTUC.masked_fill(logp_BTUC.isneginf(), 0.0)
        slope_BTUC = grad_BTUC - logp_BTUC.exp() * grad_BTUC.sum(-1, keepdim=True)
        rest_BTU = rest_BTU.masked_fill(rest_BTU.isneginf(), 0.0)
        given = (logits_BTUV, ids_BTUK, ctx.extents, rest_BTU, slope_BTUC)
        return passes(logits_BTUV.device.type).spread(*given), None, None
