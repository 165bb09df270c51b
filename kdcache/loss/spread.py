"""KL over the whole vocabulary, the teacher's rest spread over the classes that are left.

With kept classes k, rest r and weights m_v of a model of the rest (or equal ones), the teacher
stands for the dense distribution

    q̂_k as kept,        q̂_v = r · m_v / Σ_{left} m    for every class v that is left,

and the loss is Σ_v q̂_v (ln q̂_v − ln p_v), with the gradient p_v Σ q̂ − q̂_v by the student's
logits. Unlike the rest as one class it teaches how what is left lies, as far as the model knows.

q̂ is made a block of frames at a time, in both directions; what is kept for the backward pass is
the target and a reference to the logits.

Shapes: B batch, N frames or tokens, n frames of a block, V vocabulary, K kept class ids, C = K+1
classes, R rows of weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

from kdcache.errors import InputError
from kdcache.lattice.blocks import empty_gradient, node_blocks, wide_dtype
from kdcache.loss.divergence import class_kl

if TYPE_CHECKING:
    from torch import Tensor

    from kdcache.batch import PosteriorBatch, TailTable


def spread_kl(logits_BNV: Tensor, target: PosteriorBatch) -> Tensor:
    """KL of the teacher's classes, the rest spread, against the student's: (B,) nats.

    Args:
        logits_BNV: the student's, any floating dtype; may be padded further than the target.
        target: checked against the logits already.

    Raises:
        InputError: ids or the model of the rest are for another vocabulary.
    """
    vocabulary, ids_BNK = logits_BNV.shape[-1], target.ids_BNK
    if ids_BNK.numel() and int(ids_BNK.max()) >= vocabulary:
        raise InputError(
            f"Class id {int(ids_BNK.max())} is outside the vocabulary of {vocabulary} classes. "
            "Student and teacher must share one tokenizer."
        )
    if target.tail is not None and target.tail.logw_RV.shape[1] != vocabulary:
        raise InputError(
            f"The model of the rest is for {target.tail.logw_RV.shape[1]} classes, the student "
            f"has {vocabulary}. Student and teacher must share one tokenizer."
        )
    loss_B: Tensor = _SpreadKL.apply(logits_BNV, target)  # type: ignore[no-untyped-call]
    return loss_B


def spread_rest(logp_NC: Tensor, ids_NK: Tensor, vocabulary: int, tail: TailTable | None) -> Tensor:
    """The dense distribution that a target stands for: log-probabilities (N, V).

    Args:
        logp_NC: K classes and rest; −inf in slots that are not used.
        ids_NK: their ids, −1 in slots that are not used.
        vocabulary: V.
        tail: how the rest lies; evenly if ``None``.
    """
    used_NK = ids_NK >= 0
    # Slots that are not used go to a class beyond the vocabulary, which is cut off.
    ids_NK = torch.where(used_NK, ids_NK, vocabulary)
    weights_NV = _weights(ids_NK, vocabulary, tail, logp_NC.dtype)
    weights_NV.scatter_(-1, ids_NK, -torch.inf)
    weights_NV[:, vocabulary] = -torch.inf
    total_N1 = weights_NV.logsumexp(-1, keepdim=True)
    dense_NV = weights_NV - total_N1.masked_fill(total_N1.isneginf(), 0.0) + logp_NC[:, -1:]
    return dense_NV.scatter_(-1, ids_NK, logp_NC[:, :-1])[:, :vocabulary]


def _weights(ids_NK: Tensor, vocabulary: int, tail: TailTable | None, dtype: torch.dtype) -> Tensor:
    """Logarithms of the weights of every class, and of the one beyond: (N, V+1)."""
    rows, kept = ids_NK.shape
    if tail is None:
        return ids_NK.new_zeros((rows, vocabulary + 1), dtype=dtype)
    row_N = ids_NK.new_zeros(rows)
    if kept:
        row_N = torch.nn.functional.pad(tail.row_V, (0, 1))[ids_NK[:, 0]]
    return torch.nn.functional.pad(tail.logw_RV.to(dtype), (0, 1))[row_N]


class _SpreadKL(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits_BNV: Tensor, target: PosteriorBatch) -> Tensor:
        loss_B = logits_BNV.new_zeros(logits_BNV.shape[0], dtype=wide_dtype(logits_BNV.dtype))
        for row, frames in _frame_blocks(logits_BNV, target):
            logq_nV, logp_nV = _pair(logits_BNV[row, frames], target, row, frames)
            loss_B[row] += class_kl(logq_nV, logp_nV).sum()
        ctx.target = target
        ctx.save_for_backward(logits_BNV)
        return loss_B

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_B: Tensor) -> tuple[Tensor, None]:
        (logits_BNV,) = ctx.saved_tensors
        extents = [(length, 1) for length in ctx.target.lengths_B.tolist()]
        out_BNV = empty_gradient(logits_BNV[:, :, None], extents)[:, :, 0]
        for row, frames in _frame_blocks(logits_BNV, ctx.target):
            logq_nV, logp_nV = _pair(logits_BNV[row, frames], ctx.target, row, frames)
            q_nV = logq_nV.exp_()
            grad_nV = logp_nV.exp_().mul_(q_nV.sum(-1, keepdim=True)).sub_(q_nV)
            out_BNV[row, frames] = grad_nV.mul_(grad_B[row]).to(out_BNV.dtype)
        return out_BNV, None


def _frame_blocks(logits_BNV: Tensor, target: PosteriorBatch) -> list[tuple[int, slice]]:
    extents = [(length, 1) for length in target.lengths_B.tolist()]
    blocks = node_blocks(extents, logits_BNV.shape[-1], logits_BNV.device)
    return [(row, frames) for row, frames, _ in blocks]


def _pair(
    logits_nV: Tensor, target: PosteriorBatch, row: int, frames: slice
) -> tuple[Tensor, Tensor]:
    """Teacher's and student's log-probabilities of a block."""
    wide = wide_dtype(logits_nV.dtype)
    logp_nC, ids_nK = target.logp_BNC[row, frames].to(wide), target.ids_BNK[row, frames]
    logq_nV = spread_rest(logp_nC, ids_nK, logits_nV.shape[-1], target.tail)
    return logq_nV, logits_nV.to(wide).log_softmax(-1)
