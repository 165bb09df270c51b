"""Streams of small numbers in a few bits each: Golomb–Rice and exponential Golomb codes.

A number x becomes a prefix q in unary (q zeros, then a one) and a mantissa of w bits, highest
first. With order k,

    Rice:         q = x >> k,                       w = k
    exponential:  q = ⌊log2(x + 2^k)⌋ − k,          w = k + q

Rice codes suit numbers of an even or geometric distribution, exponential ones those that fall
off slowly; the better of the two with the best k takes little more than the numbers' entropy.
Prefixes of all streams lie in one run of bits and mantissas in another, so that both are read
without a loop: the prefixes by looking for the ones, the mantissas by adding up the widths that
the prefixes tell.

S. W. Golomb, Run-length encodings, IEEE Trans. Inf. Theory 12 (1966); R. F. Rice, JPL
Publication 79-22 (1979); J. Teuhola, A compression method for clustered bit-vectors,
Information Processing Letters 7 (1978).

Shapes: I numbers of all streams, one stream after the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from kdcache.errors import DamagedCacheError

if TYPE_CHECKING:
    from collections.abc import Sequence

LARGEST = (1 << 20) - 1
"""The largest number that a stream may hold."""

_ORDERS = 17
_EXPONENTIAL = 0x80
_WINDOW = 32
_SMALL_PREFIX = 1 << 14
"""Prefixes below it give numbers of 32 bits in any code that is not damaged."""
_NO_NUMBERS = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class Code:
    """How the numbers of one stream are written.

    Attributes:
        order: k, 0 to 16.
        exponential: the exponential code, else Rice's.
    """

    order: int
    exponential: bool

    def to_byte(self) -> int:
        """k, and 128 more for the exponential code."""
        return self.order | (_EXPONENTIAL if self.exponential else 0)

    @classmethod
    def from_byte(cls, byte: int) -> Code:
        """Inverse of :meth:`to_byte`; DamagedCacheError where no code can be so."""
        order = byte & ~_EXPONENTIAL
        if order >= _ORDERS:
            raise DamagedCacheError(f"a stream of order {order}, expected at most {_ORDERS - 1}")
        return cls(order, bool(byte & _EXPONENTIAL))


def best_code(numbers: np.ndarray) -> Code:
    """The code in which ``numbers`` take the fewest bits; of equals the one of smallest order."""
    return best_code_and_bits(numbers)[0]


def best_code_and_bits(numbers: np.ndarray) -> tuple[Code, int]:
    """The same, and how many bits these are."""
    counts = np.bincount(numbers)
    if len(counts) <= len(_BITS_OF_FEW):
        bits = counts @ _BITS_OF_FEW[: len(counts)]
    else:
        values = np.flatnonzero(counts)
        bits = counts[values] @ _bits(values)
    best = int(bits.argmin())
    return Code(best // 2, bool(best % 2)), int(bits[best])


def encode(streams: Sequence[np.ndarray], codes: Sequence[Code]) -> tuple[bytes, bytes]:
    """Prefixes and mantissas of all streams, each padded with zeros to whole bytes.

    Args:
        streams: int64 arrays of numbers from 0 to ``LARGEST``.
        codes: of each.
    """
    parts = [_prefix_and_rest(*pair) for pair in zip(streams, codes, strict=True)]
    prefix_I, mantissa_I, width_I = (
        np.concatenate([_NO_NUMBERS, *(part[i] for part in parts)]) for i in range(3)
    )
    return _pack_prefixes(prefix_I), _pack_mantissas(mantissa_I, width_I)


def _prefix_and_rest(numbers: np.ndarray, code: Code) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Prefixes, mantissas and the bits of these, of one stream."""
    prefix = numbers >> code.order
    if code.exponential:
        prefix = _log2(numbers + (1 << code.order)) - code.order
    floor, width = _floor_and_width(prefix, code)
    return prefix, numbers - floor, np.broadcast_to(width, prefix.shape)


def decode(
    prefixes: np.ndarray, mantissas: np.ndarray, codes: Sequence[Code], lengths: Sequence[int]
) -> list[np.ndarray]:
    """Inverse of :func:`encode`: int32 or int64 arrays of the given lengths.

    Args:
        prefixes, mantissas: uint8, what :func:`encode` made.
        codes, lengths: of each stream.

    Raises:
        DamagedCacheError: there are not as many numbers as the lengths ask for.
    """
    reader = Reader([(prefixes, mantissas)])
    if reader.left != sum(lengths):
        raise DamagedCacheError(f"{reader.left} packed numbers, expected {sum(lengths)}")
    return reader.read(codes, lengths, [sum(lengths)])


class Reader:
    """What :func:`encode` made of some records, read some streams of each at a time, in order.

    Records are read together because each of the operations takes a microsecond or more, and
    no longer for some hundreds of numbers than for one.

    Args:
        parts: prefixes and mantissas of each record, uint8.
    """

    def __init__(self, parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        prefixes, mantissas = zip(*parts, strict=True)
        self._prefix_I, self._next = _prefixes(prefixes)
        self._end = [*self._next[1:], len(self._prefix_I)]
        self._bit, self._bit_end = _limits([8 * len(one) for one in mantissas])
        self._window = _windows(np.concatenate([*mantissas, np.zeros(4, np.uint8)]))

    @property
    def left(self) -> int:
        """Numbers that are still to be read."""
        return sum(self._end) - sum(self._next)

    def read(
        self, codes: Sequence[Code], lengths: Sequence[int], totals: Sequence[int]
    ) -> list[np.ndarray]:
        """The next streams, of these codes and lengths: int32, or int64 where one is large.

        Args:
            codes, lengths: of the streams, those of the first record first.
            totals: how many numbers of each record these are.

        Raises:
            DamagedCacheError: there are fewer numbers, or bits of them, than that.
        """
        prefix_I = self._take(totals)
        if int(prefix_I.max(initial=0)) < _SMALL_PREFIX:
            prefix_I = prefix_I.astype(np.int32)
        number_I, width_I = _floors_and_widths(prefix_I, codes, lengths)
        number_I += self._mantissas(width_I, totals)
        return [
            number_I[end - n : end] for end, n in zip(accumulate(lengths), lengths, strict=True)
        ]

    def _take(self, totals: Sequence[int]) -> np.ndarray:
        """The next prefixes of each record."""
        found = []
        for record, total in enumerate(totals):
            start, end = self._next[record], self._end[record]
            if total > end - start:
                raise DamagedCacheError(f"{end - start} more packed numbers, expected {total}")
            found.append(self._prefix_I[start : start + total])
            self._next[record] = start + total
        return found[0] if len(found) == 1 else np.concatenate(found)

    def _mantissas(self, width_I: np.ndarray, totals: Sequence[int]) -> np.ndarray:
        """Each is within the 32 bits that start with the byte of its first bit."""
        widest = int(width_I.max(initial=0))
        if widest > _WINDOW - 8:
            raise DamagedCacheError(f"a packed number of {widest} bits")
        most = self._bit_end[-1] + widest * len(width_I)
        start_I = width_I.cumsum(dtype=np.int32 if most < 1 << 31 else np.int64)
        bits = [int(start_I[end - 1]) if end else 0 for end in accumulate(totals)]
        start_I -= width_I.astype(start_I.dtype, copy=False)
        start_I += self._skip(bits, totals)
        # What stands before a mantissa is shifted out to the left, what stands behind to the
        # right; a shift by all 32 bits leaves 0, as numpy has it.
        mantissa_I = self._window.take(start_I >> 3)
        mantissa_I <<= (start_I & 7).astype(np.int32, copy=False).view(np.uint32)
        mantissa_I >>= (_WINDOW - width_I).astype(np.int32, copy=False).view(np.uint32)
        found_I: np.ndarray = mantissa_I.view(np.int32)
        return found_I

    def _skip(self, bits: Sequence[int], totals: Sequence[int]) -> np.ndarray | int:
        """Go on behind these mantissas; by how much their places are off.

        Args:
            bits: that they take, of each record and those before it.
            totals: how many there are of each record.
        """
        off, before = [], 0
        for record, after in enumerate(bits):
            off.append(self._bit[record] - before)
            self._bit[record] += after - before
            if self._bit[record] > self._bit_end[record]:
                start = self._bit_end[record - 1] if record else 0
                there, asked = (one[record] - start for one in (self._bit_end, self._bit))
                raise DamagedCacheError(
                    f"{there // 8} bytes of packed numbers, expected {-(-asked // 8)}"
                )
            before = after
        return off[0] if len(off) == 1 else np.repeat(off, totals)


def _prefixes(parts: Sequence[np.ndarray]) -> tuple[np.ndarray, list[int]]:
    """Prefixes of all records, and which is the first of each."""
    joined = parts[0] if len(parts) == 1 else np.concatenate(parts)
    (ends_I,) = np.unpackbits(joined).view(bool).nonzero()
    prefix_I = ends_I - 1
    prefix_I[1:] -= ends_I[:-1]
    bits, _ = _limits([8 * len(one) for one in parts])
    first = [0, *(ends_I.searchsorted(bits[1:]).tolist() if len(parts) > 1 else [])]
    for at, bit, after in zip(first, bits, [*first[1:], len(ends_I)], strict=True):
        if at < after:  # zeros that fill up the bytes of the record before are no prefix
            prefix_I[at] = ends_I[at] - bit
    return prefix_I, first


def _limits(lengths: Sequence[int]) -> tuple[list[int], list[int]]:
    """Where each begins and ends that follows another."""
    ends = list(accumulate(lengths))
    return [0, *ends[:-1]], ends


def _windows(bytes_I: np.ndarray) -> np.ndarray:
    """uint32: the four bytes from each byte on as one number, of all but the last three."""
    found_I = bytes_I[:-3].astype(np.uint32)
    for after in (1, 2, 3):
        found_I <<= np.uint32(8)
        found_I |= bytes_I[after : len(bytes_I) - 3 + after]
    return found_I


def _floor_and_width(prefix: np.ndarray, code: Code) -> tuple[np.ndarray, np.ndarray | int]:
    """The smallest number with each prefix, and the bits of its mantissa, of one stream."""
    if not code.exponential:
        return prefix << code.order, code.order
    return ((1 << prefix) - 1) << code.order, prefix + code.order


def _floors_and_widths(
    prefix_I: np.ndarray, codes: Sequence[Code], lengths: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """The same of several streams, one after the other."""
    floor_I, width_I = np.empty_like(prefix_I), np.empty_like(prefix_I)
    start = 0
    for code, length in zip(codes, lengths, strict=True):
        part = slice(start, start + length)
        floor_I[part], width_I[part] = _floor_and_width(prefix_I[part], code)
        start += length
    return floor_I, width_I


def _log2(numbers: np.ndarray) -> np.ndarray:
    """⌊log2⌋ of positive integers below 2^53, exactly."""
    exponents: np.ndarray = np.frexp(numbers.astype(np.float64))[1].astype(np.int64) - 1
    return exponents


def _bits(values: np.ndarray) -> np.ndarray:
    """Bits of each number in each code, by order, Rice's first: int64 (numbers, codes)."""
    orders, value_I1 = np.arange(_ORDERS), values[:, None]
    rice = (value_I1 >> orders) + 1 + orders
    exponential = 2 * _log2(value_I1 + (1 << orders)) - orders + 1
    bits: np.ndarray = np.stack([rice, exponential], axis=-1).reshape(len(values), -1)
    return bits


_BITS_OF_FEW = _bits(np.arange(64))


def _pack_prefixes(prefix_I: np.ndarray) -> bytes:
    ends_I = np.cumsum(prefix_I + 1) - 1
    bits = np.zeros(int(ends_I[-1]) + 1 if len(ends_I) else 0, np.uint8)
    bits[ends_I] = 1
    return np.packbits(bits).tobytes()


def _pack_mantissas(mantissa_I: np.ndarray, width_I: np.ndarray) -> bytes:
    after_I = np.cumsum(width_I)
    below = np.repeat(after_I, width_I) - 1 - np.arange(int(width_I.sum()))
    bits = np.repeat(mantissa_I, width_I) >> below & 1
    return np.packbits(bits.astype(np.uint8)).tobytes()
