"""Which nodes of a lattice are neighbours in time: (t−1, u) and (t+1, u) of (t, u).

Shapes: T encoder frames, S columns of a frame's window, N = T·S nodes, frame by frame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence


class Windows(NamedTuple):
    """A lattice's nodes and their neighbours.

    Attributes:
        even, odd: int64, the nodes of frames 0, 2, … and of frames 1, 3, ….
        before_N, after_N: int64, the node of the same column a frame earlier and later; N where
            the window there does not reach.
        base_N: uint8, what is added to the contexts of each node: where lattices are read
            together, those of each are others.
    """

    even: np.ndarray
    odd: np.ndarray
    before_N: np.ndarray
    after_N: np.ndarray
    base_N: np.ndarray

    @classmethod
    def of(cls, starts_T: np.ndarray, width: int) -> Windows:
        """Of windows of S = ``width`` columns from ``starts_T`` on, which do not go down."""
        frames, nodes = len(starts_T), len(starts_T) * width
        rise_T = starts_T.astype(np.int64)
        rise_T[1:] -= starts_T[:-1]
        column_TS = np.arange(width) + rise_T[:, None]
        before_TS = (np.arange(frames)[:, None] - 1) * width + column_TS
        before_TS[column_TS >= width] = nodes
        before_TS[:1] = nodes
        before_N = before_TS.reshape(-1)
        after_N = np.full(nodes + 1, nodes)
        after_N[before_N] = np.arange(nodes)
        index_TS = np.arange(nodes).reshape(frames, width)
        even, odd = index_TS[::2].reshape(-1), index_TS[1::2].reshape(-1)
        return cls(even, odd, before_N, after_N[:nodes], np.zeros(nodes, np.uint8))

    @classmethod
    def joined(cls, parts: Sequence[Windows], contexts: int) -> Windows:
        """Of lattices whose nodes follow one another, each of so many contexts."""
        if len(parts) == 1:
            return parts[0]
        nodes = [len(part.before_N) for part in parts]
        total, starts = sum(nodes), np.cumsum([0, *nodes[:-1]]).tolist()
        pairs = list(zip(parts, starts, strict=True))
        before_N, after_N = (
            np.concatenate([_moved(part[side], start, total) for part, start in pairs])
            for side in (_BEFORE, _AFTER)
        )
        return cls(
            np.concatenate([part.even + start for part, start in pairs]),
            np.concatenate([part.odd + start for part, start in pairs]),
            before_N,
            after_N,
            np.repeat(np.arange(len(parts), dtype=np.uint8) * np.uint8(contexts), nodes),
        )


_BEFORE, _AFTER = Windows._fields.index("before_N"), Windows._fields.index("after_N")


def _moved(beside_N: np.ndarray, start: int, total: int) -> np.ndarray:
    """Neighbours in the nodes of all lattices, ``total`` where there is none."""
    return np.where(beside_N == len(beside_N), total, beside_N + start)
