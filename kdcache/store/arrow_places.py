"""Where the buffers of an Arrow file lie, read from its own description of itself.

The library reads a column whole; who wants a row of a table of a hundred million has to know which
bytes it is made of. That is in the file's footer and in the head of each of its batches, as
FlatBuffers (the Arrow columnar format, "IPC File Format" and "RecordBatch message"; FlatBuffers
internals, "Tables" and "Vectors"). Little-endian, as Arrow's files are.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdcache.errors import DamagedCacheError

if TYPE_CHECKING:
    from collections.abc import Callable

    from kdcache.store.storage import Span

    Read = Callable[[Span], bytes]

_MAGIC = b"ARROW1"
_TAIL = 4 + len(_MAGIC)  # the footer's length, and the magic number again
_CONTINUES = 0xFFFFFFFF
_BLOCK, _BUFFER, _NODE = struct.Struct("<qi4xq"), struct.Struct("<qq"), struct.Struct("<qq")
_FOOTER_DICTIONARIES, _FOOTER_BATCHES = 2, 3
_MESSAGE_HEADER = 2
_DICTIONARY_BATCH = 1
_BATCH_ROWS, _BATCH_NODES, _BATCH_BUFFERS, _BATCH_COMPRESSION = 0, 1, 2, 3


@dataclass(frozen=True, slots=True)
class Batch:
    """Of a record batch, or of a dictionary's.

    Attributes:
        rows: how many.
        nulls: in each array, children after their parents.
        buffers: of these arrays, in the same order: first byte in the file, and bytes.
    """

    rows: int
    nulls: tuple[int, ...]
    buffers: tuple[Span, ...]


def read_batches(read: Read, size: int) -> tuple[list[Batch], list[Batch]]:
    """Record batches and dictionaries of a file of ``size`` bytes.

    Args:
        read: gives the bytes of a span.

    Raises:
        DamagedCacheError: it is no Arrow file, or a compressed one.
    """
    within = _bounded(read, size)
    try:
        tail = within((size - _TAIL, _TAIL))
        (length,) = struct.unpack_from("<i", tail)
        if tail[4:] != _MAGIC or not 0 < length < size:
            raise ValueError("it ends otherwise than an Arrow file")
        footer = _Table.root(within((size - _TAIL - length, length)))
        batches = [_batch(within, block) for block in footer.structs(_FOOTER_BATCHES, _BLOCK)]
        tables = footer.structs(_FOOTER_DICTIONARIES, _BLOCK)
        return batches, [_batch(within, block, dictionary=True) for block in tables]
    except (struct.error, ValueError, IndexError) as error:
        raise DamagedCacheError(f"an Arrow file that cannot be read: {error}") from error


def _bounded(read: Read, size: int) -> Read:
    """No more is asked for than the file has, whatever it says of itself."""

    def within(span: Span) -> bytes:
        start, length = span
        if not 0 <= start <= start + length <= size:
            raise ValueError(f"{length} bytes from {start} on are not in it")
        return read(span)

    return within


def _batch(read: Read, block: tuple[int, ...], *, dictionary: bool = False) -> Batch:
    start, head, _ = block
    message = read((start, head))
    continues, _ = struct.unpack_from("<II", message)
    if continues != _CONTINUES:
        raise ValueError("a message that does not begin as one")
    table = _Table.root(message[8:]).table(_MESSAGE_HEADER)
    if dictionary:
        table = table.table(_DICTIONARY_BATCH)
    if table.has(_BATCH_COMPRESSION):
        raise ValueError("its buffers are compressed")
    body = start + head
    buffers = table.structs(_BATCH_BUFFERS, _BUFFER)
    return Batch(
        table.long(_BATCH_ROWS),
        tuple(nulls for _, nulls in table.structs(_BATCH_NODES, _NODE)),
        tuple((body + offset, length) for offset, length in buffers),
    )


@dataclass(frozen=True, slots=True)
class _Table:
    """A FlatBuffers table that begins at a place of some bytes."""

    data: bytes
    at: int

    @classmethod
    def root(cls, data: bytes) -> _Table:
        """The one that the bytes begin with."""
        return cls(data, *struct.unpack_from("<I", data))

    def has(self, field: int) -> bool:
        """Whether a field, by its number, is there."""
        return self._place(field) != 0

    def long(self, field: int) -> int:
        """A 64-bit integer, 0 unless it is there."""
        place = self._place(field)
        found: int = struct.unpack_from("<q", self.data, place)[0] if place else 0
        return found

    def table(self, field: int) -> _Table:
        """A table within this one."""
        return _Table(self.data, self._follow(field))

    def structs(self, field: int, kind: struct.Struct) -> list[tuple[int, ...]]:
        """A vector of structures; an absent one is empty."""
        if not self.has(field):
            return []
        at = self._follow(field)
        (count,) = struct.unpack_from("<I", self.data, at)
        return [kind.unpack_from(self.data, at + 4 + i * kind.size) for i in range(count)]

    def _follow(self, field: int) -> int:
        place = self._place(field)
        if not place:
            raise ValueError(f"field {field} is missing")
        offset: int = struct.unpack_from("<I", self.data, place)[0]
        return place + offset

    def _place(self, field: int) -> int:
        """Where a field's value is; 0 where it has none."""
        (back,) = struct.unpack_from("<i", self.data, self.at)
        size, entry = struct.unpack_from("<H", self.data, self.at - back)[0], 4 + 2 * field
        if entry >= size:
            return 0
        (offset,) = struct.unpack_from("<H", self.data, self.at - back + entry)
        return self.at + offset if offset else 0
