"""Duration buckets by quantile, found by counting instead of sorting.

Durations fall into some ten thousand cells, and a row's cell grows with its duration. How many
rows each cell holds says in which cells the quantiles lie; only the rows of these few are sorted,
and only they are compared with a quantile: of all others the cell says it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BUCKETS = 16
"""Duration buckets, by quantile: enough that padding is small, few enough to mix well."""

_CELLS = 65_536
_BLOCK = 1 << 20
"""Rows that are worked on at once, so that memory does not grow with them."""


def bucket_of(durations: np.ndarray) -> np.ndarray:
    """uint8 (N,): the bucket of each row; each begins at a quantile k/16 of the durations.

    Args:
        durations: float64 (N,) seconds.
    """
    if not len(durations):
        return np.empty(0, np.uint8)
    scale = _Scale.of(durations)
    cells = np.empty(len(durations), np.uint16)
    for at in range(0, len(durations), _BLOCK):
        cells[at : at + _BLOCK] = scale.cells(durations[at : at + _BLOCK])
    edges = np.unique(_quantiles(durations, cells))
    return _compare(durations, cells, edges, scale.cells(edges))


@dataclass(frozen=True, slots=True)
class _Scale:
    """Cells by the bits of a float32, which grow as its value does: of like relative width."""

    low: int
    shift: int

    @classmethod
    def of(cls, durations: np.ndarray) -> _Scale:
        low, high = (int(_bits(np.array(x))) for x in (durations.min(), durations.max()))
        shift = 0
        while (high - low) >> shift >= _CELLS:
            shift += 1
        return cls(low, shift)

    def cells(self, values: np.ndarray) -> np.ndarray:
        found: np.ndarray = ((_bits(values) - self.low) >> self.shift).astype(np.uint16)
        return found


def _bits(values: np.ndarray) -> np.ndarray:
    bits: np.ndarray = np.maximum(values, 0).astype(np.float32).view(np.int32)
    return bits


def _quantiles(durations: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """The inner quantiles k/16, between two rows in proportion: bit for bit numpy's own.

    Written out, since the order of epochs rests on each bit.
    """
    at = np.arange(1, BUCKETS) / BUCKETS * (len(durations) - 1)
    below = np.floor(at).astype(np.int64)
    above = np.minimum(below + 1, len(durations) - 1)
    low, high = _by_rank(durations, cells, below), _by_rank(durations, cells, above)
    share = at - below
    up, down = low + (high - low) * share, high - (high - low) * (1 - share)
    found: np.ndarray = np.where(share >= 0.5, down, up)
    return found


def _by_rank(durations: np.ndarray, cells: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """The durations that would stand at these places if all were sorted."""
    counts = np.zeros(_CELLS, np.int64)
    for at in range(0, len(cells), _BLOCK):
        counts += np.bincount(cells[at : at + _BLOCK], minlength=_CELLS)
    below = np.cumsum(counts) - counts
    found = np.searchsorted(below + counts, ranks, side="right")
    chosen = np.zeros(_CELLS, bool)
    chosen[found] = True
    members = np.sort(durations[chosen[cells]])
    skipped = np.cumsum(np.where(chosen, 0, counts))
    values: np.ndarray = members[ranks - skipped[found]]
    return values


def _compare(
    durations: np.ndarray, cells: np.ndarray, edges: np.ndarray, edge_cells: np.ndarray
) -> np.ndarray:
    """How many edges are not greater than each duration."""
    of_cell = np.searchsorted(edge_cells, np.arange(_CELLS)).astype(np.uint8)
    buckets: np.ndarray = of_cell[cells]
    shared = np.zeros(_CELLS, bool)
    shared[edge_cells] = True
    rows = np.flatnonzero(shared[cells])
    buckets[rows] = np.searchsorted(edges, durations[rows], side="right")
    return buckets
