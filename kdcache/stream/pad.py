"""Arrays of different lengths in one, padded at the end of every axis."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcache.stream.buffers import Allocate


def pad(
    arrays: Sequence[np.ndarray],
    value: float,
    empty: Allocate = np.empty,
    dtype: type[np.generic] | None = None,
) -> np.ndarray:
    """Stack arrays of one dtype and rank along a new first axis.

    Args:
        arrays: at least one.
        value: of the padding.
        empty: makes the array to fill.
        dtype: of that array, which holds every value of theirs; theirs if None.
    """
    shape = widest(arrays)
    padded = empty((len(arrays), *shape), dtype or arrays[0].dtype)
    if all(array.shape == shape for array in arrays):
        joined = padded.reshape(len(arrays) * shape[0], *shape[1:])
        return np.concatenate(arrays, out=joined).reshape(padded.shape)
    padded.fill(value)
    for row, array in zip(padded, arrays, strict=True):
        row[tuple(slice(n) for n in array.shape)] = array
    return padded


def clear_padding(padded: np.ndarray, arrays: Sequence[np.ndarray], axes: int) -> None:
    """Zero in place what lies beyond each array's own lengths along its first ``axes`` axes."""
    for row, array in zip(padded, arrays, strict=True):
        for axis in range(axes):
            if array.shape[axis] < row.shape[axis]:
                row[(slice(None),) * axis + (slice(array.shape[axis], None),)] = 0


def widest(arrays: Sequence[np.ndarray]) -> tuple[int, ...]:
    """The largest length of each axis."""
    return tuple(max(lengths) for lengths in zip(*(a.shape for a in arrays), strict=True))
