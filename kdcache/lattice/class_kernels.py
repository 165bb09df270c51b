"""The two passes over the vocabulary of ``classes.py`` as Triton kernels, for GPUs.

One program a node: the classes are read once and nothing of the lattice's size is written beside
the gradient. Block by block in torch the same takes half a dozen launches a block, which write
each step of the arithmetic. The mathematics, and what is read and written in padding, are those
of ``classes.py``; the rest is a running log-sum-exp (Milakov and Gimelshein, "Online normalizer
calculation for softmax", arXiv 1805.02867).

Importing this file needs Triton, which torch's builds for CUDA bring along.

Shapes: B batch, T encoder frames, U labels (a node axis has U+1 entries), V vocabulary with blank,
K kept class ids, C = K+1 classes, rest last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import triton
import triton.language as tl

if TYPE_CHECKING:
    from torch import Tensor

    from kdcache.lattice.blocks import Extents

_MOST_AT_ONCE = 4096
"""Classes that a program holds in registers."""


def collapse(
    logits_BTUV: Tensor, ids_BTUK: Tensor, extents: Extents, wide: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Classes of each node, (B, T, U+1, C), and the log-sum-exp of the rest's logits, (B, T, U+1).

    Args:
        logits_BTUV: any floating dtype; may be padded further than ``ids_BTUK``.
        ids_BTUK: int64, negative where there is no class.
        extents: real (T, U+1) of each utterance; padding is 0.
        wide: dtype of arithmetic and results.
    """
    nodes, kept = ids_BTUK.shape[:3], ids_BTUK.shape[3]
    logits_BTUV = _by_rows(logits_BTUV)
    logp_BTUC = logits_BTUV.new_zeros((*nodes, kept + 1), dtype=wide)
    rest_BTU = logits_BTUV.new_zeros(nodes, dtype=wide)
    if rest_BTU.numel():
        _collapse_node[(rest_BTU.numel(),)](
            logits_BTUV,
            ids_BTUK,
            *_lengths(extents, logits_BTUV.device),
            logp_BTUC,
            rest_BTU,
            *nodes[1:],
            kept,
            logits_BTUV.shape[3],
            *logits_BTUV.stride()[:3],
            *ids_BTUK.stride(),
            **_launch(logits_BTUV.shape[3], wide),
        )
    return logp_BTUC, rest_BTU


def spread(
    logits_BTUV: Tensor, ids_BTUK: Tensor, extents: Extents, rest_BTU: Tensor, slope_BTUC: Tensor
) -> Tensor:
    """The gradient of the logits, of their shape and dtype.

    Args:
        logits_BTUV: as in :func:`collapse`.
        ids_BTUK: as there.
        extents: as there; the gradient is zero in padding.
        rest_BTU: from there, finite.
        slope_BTUC: the gradient by each kept class's logit and by that of the rest as a whole.
    """
    logits_BTUV = _by_rows(logits_BTUV)
    grad_BTUV = torch.empty(logits_BTUV.shape, dtype=logits_BTUV.dtype, device=logits_BTUV.device)
    if grad_BTUV.numel():
        _spread_node[(grad_BTUV[..., 0].numel(),)](
            logits_BTUV,
            ids_BTUK,
            *_lengths(extents, logits_BTUV.device),
            rest_BTU.contiguous(),
            slope_BTUC.contiguous(),
            grad_BTUV,
            *logits_BTUV.shape[1:3],
            *ids_BTUK.shape[1:],
            logits_BTUV.shape[3],
            *logits_BTUV.stride()[:3],
            *ids_BTUK.stride(),
            **_launch(logits_BTUV.shape[3], rest_BTU.dtype),
        )
    return grad_BTUV


def _by_rows(logits_BTUV: Tensor) -> Tensor:
    return logits_BTUV if logits_BTUV.stride(3) == 1 else logits_BTUV.contiguous()


def _lengths(extents: Extents, device: torch.device) -> tuple[Tensor, Tensor]:
    frames_B, columns_B = torch.tensor(extents, device=device).unbind(1)
    return frames_B.contiguous(), columns_B.contiguous()


def _launch(vocab: int, wide: torch.dtype) -> dict[str, Any]:
    block = min(triton.next_power_of_2(vocab), _MOST_AT_ONCE)
    return {"WIDE": tl.float64 if wide == torch.float64 else tl.float32, "BLOCK": block}


@triton.jit
def _collapse_node(
    logits, ids, frames, columns, logp, rest,
    T, U, K, V, logits_b, logits_t, logits_u, ids_b, ids_t, ids_u, ids_k,
    WIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    # Offsets are of 64 bits: a lattice may have more than 2^31 logits.
    node = tl.program_id(0).to(tl.int64)
    b, t, u = node // (T * U), node // U % T, node % U
    if (t < tl.load(frames + b)) & (u < tl.load(columns + b)):
        logits += b * logits_b + t * logits_t + u * logits_u
        ids += b * ids_b + t * ids_t + u * ids_u
        most = tl.full((), float("-inf"), WIDE)
        total = tl.full((), 0.0, WIDE)
        for start in range(0, V, BLOCK):
            v = start + tl.arange(0, BLOCK)
            z = tl.load(logits + v, mask=v < V, other=float("-inf")).to(WIDE)
            for k in range(0, K):
                z = tl.where(v == tl.load(ids + k * ids_k), float("-inf"), z)
            higher = tl.maximum(most, tl.max(z, 0))
            # Infinities are not subtracted from each other; NaN comes through the sum.
            base = tl.where(tl.abs(higher) == float("inf"), 0.0, higher)
            before = tl.where(tl.abs(most) == float("inf"), 0.0, most)
            total = total * tl.exp(before - base) + tl.sum(tl.exp(z - base), 0)
            most = higher
        base = tl.where(tl.abs(most) == float("inf"), 0.0, most)
        others = base + tl.log(total)
        most = others
        for k in range(0, K):
            id_ = tl.load(ids + k * ids_k)
            z_k = tl.load(logits + tl.maximum(id_, 0)).to(WIDE)
            most = tl.maximum(most, tl.where(id_ < 0, float("-inf"), z_k))
        base = tl.where(tl.abs(most) == float("inf"), 0.0, most)
        total = tl.exp(others - base)
        for k in range(0, K):
            id_ = tl.load(ids + k * ids_k)
            z_k = tl.load(logits + tl.maximum(id_, 0)).to(WIDE)
            total += tl.exp(tl.where(id_ < 0, float("-inf"), z_k) - base)
        whole = base + tl.log(total)
        for k in range(0, K):
            id_ = tl.load(ids + k * ids_k)
            z_k = tl.load(logits + tl.maximum(id_, 0)).to(WIDE)
            z_k = tl.where(id_ < 0, float("-inf"), z_k)
            tl.store(logp + node * (K + 1) + k, z_k - whole)
        tl.store(logp + node * (K + 1) + K, others - whole)
        tl.store(rest + node, others)


@triton.jit
def _spread_node(
    logits, ids, frames, columns, rest, slope, grad,
    ROOM_T, ROOM_U, T, U, K, V, logits_b, logits_t, logits_u, ids_b, ids_t, ids_u, ids_k,
    WIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    b, t, u = row // (ROOM_T * ROOM_U), row // ROOM_U % ROOM_T, row % ROOM_U
    is_real = (t < tl.load(frames + b)) & (u < tl.load(columns + b))
    node = (b * T + t) * U + u
    logits += b * logits_b + t * logits_t + u * logits_u
    ids += b * ids_b + t * ids_t + u * ids_u
    slope += node * (K + 1)
    for start in range(0, V, BLOCK):
        v = start + tl.arange(0, BLOCK)
        is_class = v < V
        value = tl.zeros((BLOCK,), WIDE)
        if is_real:
            z = tl.load(logits + v, mask=is_class, other=float("-inf")).to(WIDE)
            value = tl.exp(z - tl.load(rest + node)) * tl.load(slope + K)
            for k in range(0, K):
                value = tl.where(v == tl.load(ids + k * ids_k), tl.load(slope + k), value)
        tl.store(grad + row * V + v, value, mask=is_class)
