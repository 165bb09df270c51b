"""One tensor ↔ bytes: whole or without its zeros, as it is or as 8-bit integers.

    form     1 byte    see ``Form``
    scales   R × 4     float32, only of integers
    places   4 + n     length, then bytes of ``kdcache.student.places``; not where all is kept
    values             of the places that are kept, in order; of its dtype, or int8

All numbers are little-endian. Whichever form is smallest is taken, the first of equal ones.
"""

from __future__ import annotations

import math
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from kdcache.errors import InputError
from kdcache.student.places import bitmap, from_bitmap, from_gaps, gaps
from kdcache.student.rounding import to_integers, to_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

INTEGERS = 4
"""Added to the form of a tensor whose values are integers with scales."""


class Form(IntEnum):
    """Which values are there."""

    ALL = 0
    BITMAP = 1
    GAPS = 2


def pack_tensor(values: np.ndarray, *, int8: bool, sparse: bool) -> bytes:
    """The bytes of a tensor.

    Args:
        values: numbers.
        int8: whether to round it to integers; float32 with at least two axes.
        sparse: whether zeros may be left out.
    """
    scales = b""
    if int8:
        values, scales_R = to_integers(values)
        scales = scales_R.astype("<f4").tobytes()
    form, places, kept = _smallest(values.reshape(-1), sparse)
    head = bytes([form + (INTEGERS if int8 else 0)]) + scales
    return head + places + kept.astype(kept.dtype.newbyteorder("<")).tobytes()


def unpack_tensor(data: memoryview, dtype: str, shape: Sequence[int]) -> tuple[np.ndarray, int]:
    """The tensor that ``data`` begins with, and how many bytes it took.

    Args:
        data: of :func:`pack_tensor`, and whatever follows.
        dtype: of the tensor, as numpy calls it.
        shape: of the tensor.

    Raises:
        InputError: the bytes are not such a tensor's.
    """
    reader = _Reader(data)
    count = math.prod(shape)
    code = reader.take(1)[0]
    if code not in {form + more for form in Form for more in (0, INTEGERS)}:
        raise InputError(f"A tensor has form {code}, which this version does not know; upgrade.")
    integers, form = code >= INTEGERS, Form(code % INTEGERS)
    scales_R = reader.numbers("<f4", shape[0]) if integers else None
    kept_N = _places(reader, form, count)
    found = reader.numbers("<i1" if integers else dtype, int(kept_N.sum()))
    flat_N = np.zeros(count, found.dtype)
    flat_N[kept_N] = found
    values = flat_N.reshape(shape)
    return (values if scales_R is None else to_weights(values, scales_R)), reader.at


def _smallest(flat_N: np.ndarray, sparse: bool) -> tuple[Form, bytes, np.ndarray]:
    """The form that takes fewest bytes, its places with their length, the values kept."""
    kept_N = flat_N != 0  # pruning makes −0 of what was negative: it is zero, and comes back as 0
    ways = [(Form.ALL, b"", flat_N)]
    if sparse:
        for form, make in ((Form.BITMAP, bitmap), (Form.GAPS, gaps)):
            places = make(kept_N)
            ways.append((form, len(places).to_bytes(4, "little") + places, flat_N[kept_N]))
    return min(ways, key=lambda way: len(way[1]) + way[2].nbytes)


def _places(reader: _Reader, form: Form, count: int) -> np.ndarray:
    """Which values are there, bool (count,)."""
    if form is Form.ALL:
        return np.ones(count, bool)
    data = reader.take(int.from_bytes(reader.take(4), "little"))
    return from_bitmap(data, count) if form is Form.BITMAP else from_gaps(data, count)


class _Reader:
    """Bytes from the front, and how many were taken."""

    def __init__(self, data: memoryview) -> None:
        self._data, self.at = data, 0

    def take(self, count: int) -> bytes:
        """So many bytes.

        Raises:
            InputError: there are fewer.
        """
        taken = bytes(self._data[self.at : self.at + count])
        if len(taken) != count:
            raise InputError("The packed weights end before the last of them; copy the file again.")
        self.at += count
        return taken

    def numbers(self, dtype: str, count: int) -> np.ndarray:
        """So many numbers, in this machine's order of bytes."""
        kind = np.dtype(dtype).newbyteorder("<")
        return np.frombuffer(self.take(count * kind.itemsize), kind).astype(kind.newbyteorder("="))
