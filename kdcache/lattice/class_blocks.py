"""The two passes over the vocabulary of ``classes.py`` in torch, block by block.

``class_kernels.py`` has the same two functions for GPUs.

Shapes: B batch, T encoder frames, U labels (a node axis has U+1 entries), V vocabulary with blank,
K kept class ids, C = K+1 classes, rest last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from kdcache.lattice.blocks import empty_gradient, node_blocks

if TYPE_CHECKING:
    from torch import Tensor

    from kdcache.lattice.blocks import Extents


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
    kept = ids_BTUK.shape[3]
    logp_BTUC = logits_BTUV.new_zeros((*ids_BTUK.shape[:3], kept + 1), dtype=wide)
    rest_BTU = torch.zeros_like(logp_BTUC[..., 0])
    for block in node_blocks(extents, logits_BTUV.shape[3], logits_BTUV.device):
        z_TUC = _collapse(logits_BTUV[block].to(wide), ids_BTUK[block])
        rest_BTU[block] = z_TUC[..., kept]
        logp_BTUC[block] = z_TUC - z_TUC.logsumexp(-1, keepdim=True)
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
