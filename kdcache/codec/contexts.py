"""Numbers sorted by context, each context in the Golomb code that suits its numbers.

A context is what both sides know of a number before it is read, such as how large its neighbours
are. Numbers of one context are alike, and one code serves them well. Writer and reader are called
with the same contexts in the same order, so that nothing is stored of them; a context must not
come back in a later call.

A stream that is nearly all zeros is written as two: how many zeros stand before each number that
is none, and these numbers less one. What stands behind the last of them is zero.

Header, a byte a context: 255 where all its numbers are zero, else its Golomb code; or, with 64
added, the code of the runs, and behind it the code of the others (255: all are one) and how many
there are. Counts are in seven bits a byte, lowest first, 128 added to all but the last.

Shapes: I numbers of a call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from kdcache.codec import golomb
from kdcache.errors import DamagedCacheError

if TYPE_CHECKING:
    from collections.abc import Sequence

_ZERO = 255
_RUNS = 64
_NO_NUMBERS = np.zeros(0, np.int64)


class Coder(Protocol):
    """Writes or reads: the same way through a record serves both."""

    def __call__(self, context_I: np.ndarray, number_I: np.ndarray) -> np.ndarray:
        """The numbers of these contexts, int64 (I).

        Args:
            context_I: uint8.
            number_I: any integers to be written; a reader does not look at them.
        """
        ...


class Writer:
    """Gathers numbers by context.

    Args:
        contexts: how many there are.
    """

    def __init__(self, contexts: int) -> None:
        self._streams = [_NO_NUMBERS] * contexts

    def __call__(self, context_I: np.ndarray, number_I: np.ndarray) -> np.ndarray:
        """See ``Coder``."""
        ends = np.cumsum(np.bincount(context_I, minlength=len(self._streams)))
        parts = np.split(number_I[np.argsort(context_I, kind="stable")], ends[:-1])
        self._streams = [
            new if len(new) else old for old, new in zip(self._streams, parts, strict=True)
        ]
        return number_I

    def to_bytes(self) -> bytes:
        """Headers of all contexts, bytes of prefixes, prefixes, mantissas."""
        written = [_written(stream) for stream in self._streams]
        streams = [s for one in written for s in one.streams]
        codes = [c for one in written for c in one.codes]
        prefixes, mantissas = golomb.encode(streams, codes)
        heads = b"".join(one.head for one in written)
        return heads + to_varint(len(prefixes)) + prefixes + mantissas


class Reader:
    """Inverse of :class:`Writer`, of some records together.

    Context c of record r is c + r · ``contexts``.

    Args:
        packed: uint8, what it made of each record.
        contexts: how many there are.

    Raises:
        DamagedCacheError: the bytes are nothing of the kind.
    """

    def __init__(self, packed: Sequence[np.ndarray], contexts: int) -> None:
        self._contexts, self._heads = contexts, list[_Head]()
        parts = []
        for one in packed:
            cursor = Cursor(one)
            self._heads += [_read_head(cursor) for _ in range(contexts)]
            middle = cursor.varint()
            body = one[cursor.at :]
            parts.append((body[:middle], body[middle:]))
        self._golomb = golomb.Reader(parts)

    def __call__(self, context_I: np.ndarray, number_I: np.ndarray) -> np.ndarray:
        """See ``Coder``."""
        if not len(context_I):
            return _NO_NUMBERS
        counts = np.bincount(context_I, minlength=len(self._heads)).tolist()
        there = [c for c in zip(self._heads, counts, strict=True) if c[1]]
        codes = [code for head, _ in there for code in head.codes]
        lengths = [length for head, count in there for length in head.lengths(count)]
        streams = iter(self._golomb.read(codes, lengths, self._totals(counts)))
        parts = [head.expand(count, [next(streams) for _ in head.codes]) for head, count in there]
        if len(parts) == 1:
            return parts[0]
        found_I = np.empty(len(context_I), np.int64)
        found_I[np.argsort(context_I, kind="stable")] = np.concatenate(parts)
        return found_I

    def close(self) -> None:
        """DamagedCacheError where numbers are left over."""
        if self._golomb.left:
            raise DamagedCacheError(f"{self._golomb.left} packed numbers too many")

    def _totals(self, counts: Sequence[int]) -> list[int]:
        """Numbers in the streams of each record."""
        totals = [0] * (len(self._heads) // self._contexts)
        for context, (head, count) in enumerate(zip(self._heads, counts, strict=True)):
            if count:
                totals[context // self._contexts] += sum(head.lengths(count))
        return totals


class Cursor:
    """Bytes and counts, one after the other.

    Args:
        packed: uint8.
    """

    def __init__(self, packed: np.ndarray) -> None:
        self._bytes = packed.data  # many times faster byte by byte
        self.at = 0

    def byte(self) -> int:
        """The next byte; DamagedCacheError where there is none."""
        if self.at >= len(self._bytes):
            raise DamagedCacheError(f"a header breaks off after {len(self._bytes)} bytes")
        self.at += 1
        return self._bytes[self.at - 1]

    def varint(self) -> int:
        """The next count; DamagedCacheError where there is none below 2^35."""
        number = 0
        for shift in range(0, 35, 7):
            byte = self.byte()
            number |= (byte & 127) << shift
            if byte < 128:
                return number
        raise DamagedCacheError("a count in a header has no end")


def to_varint(number: int) -> bytes:
    """Seven bits a byte, lowest first, 128 added to all but the last."""
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])


class _Written(NamedTuple):
    head: bytes
    streams: Sequence[np.ndarray]
    codes: Sequence[golomb.Code]


class _Head(NamedTuple):
    """How a context's numbers are written.

    Attributes:
        codes: of its streams: none, one, or of the runs and, unless all are one, the others.
        others: how many numbers are not zero, where zeros are counted in runs.
    """

    codes: tuple[golomb.Code, ...]
    others: int | None

    def lengths(self, count: int) -> list[int]:
        return [count if self.others is None else self.others] * len(self.codes)

    def expand(self, count: int, streams: list[np.ndarray]) -> np.ndarray:
        if self.others is None and streams:
            return streams[0]
        found = np.zeros(count, np.int64)
        if streams:
            at = np.cumsum(streams[0] + 1) - 1
            if len(at) and int(at[-1]) >= count:
                raise DamagedCacheError(f"runs of {int(at[-1]) + 1} numbers, expected {count}")
            found[at] = streams[1] + 1 if len(streams) > 1 else 1
        return found


def _written(numbers: np.ndarray) -> _Written:
    """As a stream or as runs, whichever is shorter."""
    at = np.flatnonzero(numbers)
    if not len(at):
        return _Written(bytes([_ZERO]), (), ())
    code, bits = golomb.best_code_and_bits(numbers)
    plain = _Written(bytes([code.to_byte()]), (numbers,), (code,))
    runs, run_bits = _runs(numbers, at)
    return runs if run_bits + 8 * len(runs.head) < bits + 8 else plain


def _runs(numbers: np.ndarray, at: np.ndarray) -> tuple[_Written, int]:
    """As runs of zeros and the others, at these places; and the bits of the two streams."""
    runs, others = np.diff(at, prepend=-1) - 1, numbers[at].astype(np.int64) - 1
    code, bits = golomb.best_code_and_bits(runs)
    head, count = code.to_byte() | _RUNS, to_varint(len(at))
    if not others.any():
        return _Written(bytes([head, _ZERO]) + count, (runs,), (code,)), bits
    other_code, other_bits = golomb.best_code_and_bits(others)
    written = _Written(
        bytes([head, other_code.to_byte()]) + count, (runs, others), (code, other_code)
    )
    return written, bits + other_bits


def _read_head(cursor: Cursor) -> _Head:
    byte = cursor.byte()
    if byte == _ZERO:
        return _Head((), None)
    first = golomb.Code.from_byte(byte & ~_RUNS)
    if not byte & _RUNS:
        return _Head((first,), None)
    byte, others = cursor.byte(), cursor.varint()
    second = () if byte == _ZERO else (golomb.Code.from_byte(byte),)
    return _Head((first, *second), others)
