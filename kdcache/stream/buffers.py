"""Memory of batches that are gone, for those to come.

A batch is some megabytes. The system hands out fresh memory page by page, at a fault a page,
which takes several times longer than filling it; and whether the allocator keeps what is freed
is up to chance. Here what an array was made in is used again as soon as nobody holds the array
any more, so that a stream soon asks the system for nothing.
"""

from __future__ import annotations

import math
import mmap
import weakref
from collections import deque
from typing import Any, Protocol

import numpy as np

SMALLEST = 1 << 15
"""Bytes of an array from which on its memory is kept: of smaller ones, allocators keep it."""

IDLE = 4
"""Arrays of each size whose memory may wait; what comes back beyond goes to the system."""

_HUGE = 1 << 21
"""Bytes from which on large pages are asked for: filling them was measured as 10 to 25 % faster."""


class Allocate(Protocol):
    """Makes arrays whose values are yet to be set, as ``numpy.empty`` does."""

    def __call__(self, shape: tuple[int, ...], dtype: Any, /) -> np.ndarray:
        """A C-contiguous array of any values."""
        ...


class Buffers:
    """Makes arrays in memory that is used again once they and all their views are gone.

    May be used from several threads. A copy of it, in another process, begins with nothing.
    """

    def __init__(self) -> None:
        # Memory by size. Appending and popping are atomic: a lock could not be taken where an
        # array dies, which may be amid anything.
        self._idle: dict[int, deque[mmap.mmap]] = {}

    def __reduce__(self) -> tuple[type[Buffers], tuple[()]]:
        return Buffers, ()

    @property
    def idle(self) -> int:
        """Bytes that wait to be used again."""
        return sum(size * len(waiting) for size, waiting in list(self._idle.items()))

    def empty(self, shape: tuple[int, ...], dtype: Any, /) -> np.ndarray:
        """A C-contiguous array of any values."""
        nbytes = math.prod(shape) * np.dtype(dtype).itemsize
        if nbytes < SMALLEST:
            return np.empty(shape, dtype)
        # Few sizes, so that batches of different lengths use the same memory.
        size = 1 << (nbytes - 1).bit_length()
        waiting = self._idle.setdefault(size, deque(maxlen=IDLE))
        try:
            memory = waiting.pop()
        except IndexError:
            memory = _fresh(size)
        # Views of an array refer to the array, not to what it lies in, because that is none: the
        # array lives for as long as anything does that shows these bytes, tensors too.
        array: np.ndarray = np.ndarray(shape, dtype, memory)
        weakref.finalize(array, waiting.append, memory).atexit = False
        return array


def _fresh(size: int) -> mmap.mmap:
    # Private: shared memory, the default, would be written by forked processes together.
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if size >= _HUGE and hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory
