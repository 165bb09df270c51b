"""Which nodes of a lattice are neighbours in time: (t−1, u) and (t+1, u) of (t, u).

Shapes: T encoder frames, S columns of a frame's window, N = T·S nodes, frame by frame.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Windows(NamedTuple):
    """A lattice's nodes and their neighbours.

    Attributes:
        even, odd: int64, the nodes of frames 0, 2, … and of frames 1, 3, ….
        before_N, after_N: int64, the node of the same column a frame earlier and later; N where
            the window there does not reach.
    """

    even: np.ndarray
    odd: np.ndarray
    before_N: np.ndarray
    after_N: np.ndarray

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
        return cls(index_TS[::2].reshape(-1), index_TS[1::2].reshape(-1), before_N, after_N[:nodes])
