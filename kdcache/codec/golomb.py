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
    counts = np.bincount(numbers)
    values = np.flatnonzero(counts)
    orders = np.arange(_ORDERS)[:, None]
    rice = (values >> orders) + 1 + orders
    exponential = 2 * _log2(values + (1 << orders)) - orders + 1
    bits = np.stack([rice @ counts[values], exponential @ counts[values]], axis=1)
    best = int(bits.argmin())
    return Code(best // 2, bool(best % 2))


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
    return prefix, numbers - floor, width


def decode(
    prefixes: np.ndarray, mantissas: np.ndarray, codes: Sequence[Code], lengths: Sequence[int]
) -> list[np.ndarray]:
    """Inverse of :func:`encode`: int64 arrays of the given lengths.

    Args:
        prefixes, mantissas: uint8, what :func:`encode` made.
        codes, lengths: of each stream.

    Raises:
        DamagedCacheError: there are not as many numbers as the lengths ask for.
    """
    # Ones are found in booleans several times faster than in bytes.
    ends_I = np.flatnonzero(np.unpackbits(prefixes).view(np.bool_))
    if len(ends_I) != sum(lengths):
        raise DamagedCacheError(f"{len(ends_I)} packed numbers, expected {sum(lengths)}")
    prefix_I = np.diff(ends_I, prepend=-1) - 1
    after = np.cumsum(lengths, dtype=np.int64)
    parts = [
        _floor_and_width(*pair) for pair in zip(np.split(prefix_I, after), codes, strict=False)
    ]
    mantissa_I = _unpack_mantissas(mantissas, np.concatenate([_NO_NUMBERS, *(w for _, w in parts)]))
    return [
        floor + mantissa
        for (floor, _), mantissa in zip(parts, np.split(mantissa_I, after), strict=False)
    ]


def _floor_and_width(prefix: np.ndarray, code: Code) -> tuple[np.ndarray, np.ndarray]:
    """The smallest number with each prefix, and the bits of its mantissa, of one stream."""
    if not code.exponential:
        return prefix << code.order, np.full(len(prefix), code.order)
    return ((1 << prefix) - 1) << code.order, prefix + code.order


def _log2(numbers: np.ndarray) -> np.ndarray:
    """⌊log2⌋ of positive integers below 2^53, exactly."""
    exponents: np.ndarray = np.frexp(numbers.astype(np.float64))[1].astype(np.int64) - 1
    return exponents


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


def _unpack_mantissas(packed: np.ndarray, width_I: np.ndarray) -> np.ndarray:
    """Each is within the 32 bits that start with the byte of its first bit."""
    start_I = np.cumsum(width_I) - width_I
    total = int(width_I.sum())
    if len(packed) * 8 < total or int(width_I.max(initial=0)) > _WINDOW - 8:
        raise DamagedCacheError(f"{len(packed)} bytes of packed numbers, expected {-(-total // 8)}")
    padded = np.concatenate([packed, np.zeros(4, np.uint8)]).astype(np.uint32)
    window = padded[:-3] << 24 | padded[1:-2] << 16 | padded[2:-1] << 8 | padded[3:]
    # The bits before a mantissa leave at the top, those after it at the bottom; all of them do
    # where it has none, as numpy shifts by 32 to 0.
    above_I, below_I = (start_I & 7).astype(np.uint32), (_WINDOW - width_I).astype(np.uint32)
    mantissa_I: np.ndarray = (window[start_I >> 3] << above_I >> below_I).astype(np.int64)
    return mantissa_I
