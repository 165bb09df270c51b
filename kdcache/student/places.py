"""Where the values of an array are that are not zero: in as few bytes as may be.

Two ways, whose bytes are known before they are made:

- ``bitmap``: a bit a value, the first value in the highest bit; ⌈n ÷ 8⌉ bytes.
- ``gaps``: how many zeros are between one value that is kept and the next, a byte each; 255 says
  that 255 zeros are passed and the gap goes on.
"""

from __future__ import annotations

import numpy as np

from kdcache.errors import InputError

ON = 255
"""The byte after which a gap goes on."""


def bitmap(kept_N: np.ndarray) -> bytes:
    """Of bool (n,)."""
    return np.packbits(kept_N).tobytes()


def from_bitmap(data: bytes, count: int) -> np.ndarray:
    """The inverse: bool (count,).

    Raises:
        InputError: the bytes are not that many.
    """
    if len(data) != -(-count // 8):
        raise InputError(f"A bitmap of {count} weights has {len(data)} bytes; copy the file again.")
    return np.unpackbits(np.frombuffer(data, np.uint8), count=count).astype(bool)


def gaps(kept_N: np.ndarray) -> bytes:
    """Of bool (n,)."""
    zeros = np.diff(np.flatnonzero(kept_N), prepend=-1) - 1
    passed = zeros // ON
    out = np.full(int(passed.sum()) + len(zeros), ON, np.uint8)
    out[np.cumsum(passed + 1) - 1] = zeros % ON
    return out.tobytes()


def from_gaps(data: bytes, count: int) -> np.ndarray:
    """The inverse: bool (count,).

    Raises:
        InputError: the bytes lead beyond the array.
    """
    steps = np.frombuffer(data, np.uint8).astype(np.int64)
    ends = steps != ON
    # A byte of 255 passes 255 values, any other so many and the one that is kept.
    places = np.cumsum(steps + ends)[ends] - 1
    if len(steps) and (not ends[-1] or places[-1] >= count):
        raise InputError(f"Gaps lead beyond the {count} weights of a matrix; copy the file again.")
    kept_N = np.zeros(count, bool)
    kept_N[places] = True
    return kept_N
