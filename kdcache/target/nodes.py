"""A lattice's logits, a few frames at a time, and the label that each node waits for.

Shapes: T encoder frames, U labels (a node axis has U+1 entries), S columns of a frame's window
(U+1 of the whole lattice), V vocabulary with blank, J joint width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from kdcache.errors import TeacherOutputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from kdcache.teacher.protocol import LatticeLogits


def chunks(
    lattice: LatticeLogits, budget: int, columns_TS: Tensor | None = None
) -> Iterator[tuple[slice, Tensor]]:
    """Frames and their logits (t, S, V), a few at a time: one, to see V, then as many as fit.

    The joint network's activations (t, S, J) count as well, where they are the wider.

    Args:
        lattice: the teacher's.
        budget: logits that may be in memory at once; a single frame may have more.
        columns_TS: int64, which columns of each frame; all if ``None``.
    """
    frames, columns = lattice.shape if columns_TS is None else columns_TS.shape
    start, count = 0, 1
    while start < frames:
        stop = min(start + count, frames)
        if columns_TS is None:
            logits_TSV = lattice.rows(start, stop)
        else:
            logits_TSV = lattice.windows(start, stop, columns_TS)
        yield slice(start, stop), logits_TSV
        start = stop
        width = max(logits_TSV.shape[-1], lattice.encoder_TJ.shape[-1])
        count = max(1, budget // (columns * width))


def next_labels(tokens: Sequence[int], blank: int, logits_TSV: Tensor) -> Tensor:
    """The next label at each column, blank in the last, where there is none: int64 (U+1,).

    Raises:
        TeacherOutputError: a token is no label of such logits.
    """
    vocabulary = logits_TSV.shape[-1]
    if any(not 0 <= token < vocabulary or token == blank for token in tokens):
        raise TeacherOutputError(
            f"The teacher's tokens are no labels of its lattice of {vocabulary} classes."
        )
    return torch.tensor([*tokens, blank], device=logits_TSV.device)
