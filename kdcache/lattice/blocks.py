"""The real nodes of a padded lattice, in blocks of bounded size.

Shapes: B batch, T encoder frames, U labels (a node axis has U+1 entries), V vocabulary with blank.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

Extents = list[tuple[int, int]]
Block = tuple[int, slice, slice]

BLOCK_ELEMENTS = {"cpu": 1 << 18, "cuda": 1 << 25}
"""Logits per block: on a CPU what stays in cache, on a GPU what fills it."""


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
