"""Starts of a band's windows as bits: 1 moves the window up a column, 0 ends the frame.

A window never moves down, and starts at column 0, so T frames and a last start of U + 1 − S take
T + U + 1 − S bits whatever the steps are: about 4 bytes a second of speech, and lossless. Bits are
packed eight a byte, the first in the highest place; what fills up the last byte is 0.

Shapes: T encoder frames, N bytes.
"""

from __future__ import annotations

import numpy as np

from kdcache.errors import DamagedCacheError, TeacherOutputError


def pack_starts(starts_T: np.ndarray) -> np.ndarray:
    """uint8 (N,) of starts that begin with 0 and do not decrease.

    Raises:
        TeacherOutputError: they do.
    """
    starts_T = np.asarray(starts_T, np.int64)
    if starts_T.ndim != 1 or (np.diff(starts_T, prepend=0) < 0).any() or starts_T[:1].any():
        raise TeacherOutputError(
            f"expected starts of windows that begin with 0 and do not decrease, got {starts_T}"
        )
    frames = len(starts_T)
    bits = np.ones(frames + int(starts_T[-1:].sum()), np.uint8)
    bits[starts_T + np.arange(frames)] = 0
    return np.packbits(bits)


def unpack_starts(codes: np.ndarray, frames: int) -> np.ndarray:
    """int32 (T,): how many 1s stand before each frame's 0.

    Raises:
        DamagedCacheError: there are fewer 0s than frames.
    """
    ends_T = np.flatnonzero(np.unpackbits(codes) == 0)[:frames]
    if len(ends_T) < frames:
        raise DamagedCacheError(f"starts of {len(ends_T):,} windows, expected {frames:,}")
    starts_T: np.ndarray = (ends_T - np.arange(frames)).astype(np.int32)
    return starts_T
