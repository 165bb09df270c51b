"""Arrays of different lengths in one, padded at the end of every axis."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence


def pad(arrays: Sequence[np.ndarray], value: float) -> np.ndarray:
    """Stack arrays of one dtype and rank along a new first axis."""
    shape = widest(arrays)
    padded = np.full((len(arrays), *shape), value, dtype=arrays[0].dtype)
    for row, array in zip(padded, arrays, strict=True):
        row[tuple(slice(n) for n in array.shape)] = array
    return padded


def clear_padding(padded: np.ndarray, arrays: Sequence[np.ndarray], axes: int) -> None:
    """Zero in place what lies beyond each array's own lengths along its first ``axes`` axes."""
    for row, array in zip(padded, arrays, strict=True):
        for axis, length in enumerate(array.shape[:axes]):
            row[(slice(None),) * axis + (slice(length, None),)] = 0


def widest(arrays: Sequence[np.ndarray]) -> tuple[int, ...]:
    """The largest length of each axis."""
    return tuple(max(lengths) for lengths in zip(*(a.shape for a in arrays), strict=True))
