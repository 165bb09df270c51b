"""Where a sequence of rows is cut into micro-batches, without a loop over rows.

A micro-batch takes rows as long as its padded length, its longest row × its rows, stays
within a limit. So each row allows a number of rows in its micro-batch, its *room*, and a
micro-batch that starts at row s has as many rows as all of them allow:

    size(s) = the greatest n with min(room[s : s + n]) ≥ n

Sizes are worked out for every possible start at once, by sliding minima that grow a row at a
time, and then followed from cut to cut. Most sequences need few such passes, because rows of a
duration bucket allow nearly the same number.
"""

from __future__ import annotations

import numpy as np

_MANY = 255
"""Rows of a micro-batch whose size is looked for by itself: as many rows share what that costs."""


def room_for(durations: np.ndarray, seconds: float) -> np.ndarray:
    """int32 (N,), at least 1: rows that a micro-batch may have whose longest is this one.

    Exactly those n for which ``duration * n <= seconds`` in double precision.
    """
    most = min(np.iinfo(np.int32).max - 1, max(len(durations), 1))
    with np.errstate(all="ignore"):
        guess = np.floor(np.where(durations > 0, seconds / durations, np.inf))
        room = np.clip(guess, 0, most)
        # The quotient is rounded: it may be one too many or one too few.
        room -= durations * room > seconds
        room += durations * (room + 1) <= seconds
    found: np.ndarray = np.clip(room, 1, most).astype(np.int32)
    return found


def cut(room: np.ndarray) -> np.ndarray:
    """First row of each micro-batch, int64, of rows that have this room, int32 (N,)."""
    if not len(room):
        return np.empty(0, np.int64)
    least = int(room.min())
    if least == room.max():
        return np.arange(0, len(room), least)
    return np.array(_follow(room, _sizes(room, least)), np.int64)


def _sizes(room: np.ndarray, least: int) -> bytes:
    """Rows of the micro-batch that would start at each row, 0 where they are many.

    Of a micro-batch that reaches the end it says no more than that.
    """
    if least >= _MANY:
        return bytes(len(room))
    small = np.minimum(room, _MANY).astype(np.uint8)
    lowest, sizes = _sliding_min(small, least), np.full(len(room), least, np.uint8)
    for size in range(least + 1, min(_MANY, len(room)) + 1):
        starts = slice(len(room) - size + 1)
        np.minimum(lowest[starts], small[size - 1 :], out=lowest[starts])
        fits = lowest[starts] >= size
        if not fits.any():
            break
        sizes[starts] += fits
    sizes[sizes >= _MANY] = 0
    return sizes.tobytes()


def _sliding_min(values: np.ndarray, length: int) -> np.ndarray:
    """min(values[i : i + length]) for each i, the window cut off at the end."""
    lowest, done = values.copy(), 1
    while done < min(length, len(values)):
        step = min(done, length - done)
        lowest[:-step] = np.minimum(lowest[:-step], lowest[step:])
        done += step
    return lowest


def _follow(room: np.ndarray, sizes: bytes) -> list[int]:
    starts, at, end = [], 0, len(room)
    while at < end:
        starts.append(at)
        at += sizes[at] or _size_at(room, at)
    return starts


def _size_at(room: np.ndarray, start: int) -> int:
    """The size of the micro-batch that starts there, from growing pieces of what follows."""
    block = 4 * _MANY
    while True:
        lowest = np.minimum.accumulate(room[start : start + block])
        short = lowest < np.arange(1, len(lowest) + 1)
        if short.any():
            return int(short.argmax())
        if start + block >= len(room):
            return len(lowest)
        block *= 4
