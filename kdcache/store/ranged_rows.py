"""Some rows of an Arrow file in an object store, by ranged requests for their bytes alone.

Of each column it is known where its buffers lie (``kdcache.store.arrow_places``). Spans that can be
known together are asked for together: first validity, offsets and values of a fixed width, then
what the offsets point at. However many rows the file has, a row takes three rounds of requests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from kdcache.errors import DamagedCacheError
from kdcache.store.arrow_places import read_batches

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from kdcache.store.arrow_places import Batch
    from kdcache.store.files import FileRecord
    from kdcache.store.storage import Span, Storage

    Steps = Generator[list[Span], list[np.ndarray], pa.Array]
    """Asks for spans, is given their bytes, and ends in values."""

_END = 64 << 10
"""Bytes at the file's end that are asked for at once: its footer, in one request."""

_LARGE_BYTES = (pa.large_string(), pa.large_binary())


@dataclass(frozen=True, slots=True)
class _Column:
    """Where an array lies; a dictionary's values and a list's items are its ``child``."""

    kind: pa.DataType
    nulls: int
    buffers: tuple[Span, ...]
    child: _Column | None = None


class RangedRows:
    """Rows of an Arrow file of one record batch.

    Args:
        storage, record: where it lies.
        schema: of the file.

    Raises:
        DamagedCacheError: it is missing, or no such file.
    """

    def __init__(self, storage: Storage, record: FileRecord, schema: pa.Schema) -> None:
        self._storage, self._record = storage, record
        begin = max(0, record.size - _END)
        end = self._fetch([(begin, record.size - begin)])[0].tobytes()

        def read(span: Span) -> bytes:
            start, length = span
            if start >= begin:
                return end[start - begin : start - begin + length]
            return self._fetch([span])[0].tobytes()

        batches, dictionaries = read_batches(read, record.size)
        if len(batches) != 1:
            raise DamagedCacheError(f"{record.path}: {len(batches)} batches of rows, expected one")
        self.count = batches[0].rows
        self._columns = _columns(schema, batches[0], dictionaries)

    def slice(self, start: int, count: int, names: Sequence[str]) -> pa.Table:
        """Some rows in a row; strings are plain, whatever the file makes of them."""
        steps = [_array(self._columns[name], start, count) for name in names]
        table = pa.table(dict(zip(names, self._run(steps), strict=True)))
        try:
            table.validate(full=True)
        except pa.ArrowException as error:
            raise DamagedCacheError(f"{self._record.path}: {error}") from error
        return table

    def pick(self, places: Sequence[int], name: str) -> list[object]:
        """One column's values at some places."""
        steps = [_array(self._columns[name], place, 1) for place in places]
        return [values[0].as_py() for values in self._run(steps)]

    def _run(self, steps: Sequence[Steps]) -> list[pa.Array]:
        """Take all steps together, a round of requests at a time."""
        results: dict[int, pa.Array] = {}
        waiting = {at: next(step) for at, step in enumerate(steps)}
        while waiting:
            spans = [span for asked in waiting.values() for span in asked]
            parts = iter(self._fetch(spans))
            further = {}
            for at, asked in waiting.items():
                try:
                    further[at] = steps[at].send([next(parts) for _ in asked])
                except StopIteration as done:
                    results[at] = done.value
            waiting = further
        return [results[at] for at in range(len(steps))]

    def _fetch(self, spans: Sequence[Span]) -> list[np.ndarray]:
        try:
            parts = self._storage.read_ranges(self._record.path, spans)
        except FileNotFoundError:
            raise DamagedCacheError(f"{self._record.path}: the file is missing") from None
        if [len(part) for part in parts] != [length for _, length in spans]:
            raise DamagedCacheError(f"{self._record.path}: it is shorter than it was")
        return parts


def _columns(schema: pa.Schema, batch: Batch, dictionaries: Sequence[Batch]) -> dict[str, _Column]:
    """Buffers are listed column by column, children after their parents."""
    nulls, buffers, coded = iter(batch.nulls), iter(batch.buffers), iter(dictionaries)
    try:
        return {field.name: _column(field.type, nulls, buffers, coded) for field in schema}
    except StopIteration:
        raise DamagedCacheError("an Arrow file with fewer buffers than columns need") from None


def _column(
    kind: pa.DataType, nulls: Iterator[int], buffers: Iterator[Span], coded: Iterator[Batch]
) -> _Column:
    missing = next(nulls)
    if pa.types.is_null(kind):
        return _Column(kind, missing, ())
    own: tuple[Span, ...] = (next(buffers), next(buffers))
    if pa.types.is_dictionary(kind):
        values = next(coded)
        inner = _column(kind.value_type, iter(values.nulls), iter(values.buffers), coded)
        return _Column(kind, missing, own, inner)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _Column(kind, missing, own, _column(kind.value_type, nulls, buffers, coded))
    if _is_bytes(kind):
        own = (*own, next(buffers))
    return _Column(kind, missing, own)


def _array(column: _Column, start: int, count: int) -> Steps:
    """Values of a column at some rows in a row."""
    kind = column.kind
    if pa.types.is_null(kind):
        yield []
        return pa.nulls(count, pa.string())
    if pa.types.is_dictionary(kind):
        return (yield from _decoded(column, start, count))
    if column.child is None and not _is_bytes(kind):
        valid, values = yield [_bits(column, start, count), _items(column, start, count, kind)]
        return pa.Array.from_buffers(kind, count, [_validity(valid, start), pa.py_buffer(values)])
    offsets_kind = pa.int64() if _is_large(kind) else pa.int32()
    spans = [_bits(column, start, count), _items(column, start, count + 1, offsets_kind)]
    valid, raw = yield spans
    offsets = raw.view(offsets_kind.to_pandas_dtype())
    first, length = int(offsets[0]), int(offsets[-1] - offsets[0])
    if first < 0 or length < 0:
        raise DamagedCacheError("the index says that a value ends before it begins")
    buffers = [_validity(valid, start), pa.py_buffer(np.ascontiguousarray(offsets - offsets[0]))]
    if column.child is not None:
        items = yield from _array(column.child, first, length)
        return pa.Array.from_buffers(kind, count, buffers, children=[items])
    (data,) = yield [(column.buffers[2][0] + first, length)]
    return pa.Array.from_buffers(kind, count, [*buffers, pa.py_buffer(data)])


def _decoded(column: _Column, start: int, count: int) -> Steps:
    """Codes, and then the value of each that occurs."""
    codes_kind = column.kind.index_type
    valid, raw = yield [_bits(column, start, count), _items(column, start, count, codes_kind)]
    codes = pa.Array.from_buffers(codes_kind, count, [_validity(valid, start), pa.py_buffer(raw)])
    assert column.child is not None, "a dictionary has values"
    known: dict[int | None, object] = {None: None}
    for code in codes.drop_null().unique().to_pylist():
        value = yield from _array(column.child, code, 1)
        known[code] = value[0].as_py()
    return pa.array([known[code] for code in codes.to_pylist()], column.child.kind)


def _bits(column: _Column, start: int, count: int) -> Span:
    """Where it says which values are there; nothing where all are."""
    if not column.nulls or not count:
        return 0, 0
    first, last = start // 8, (start + count - 1) // 8
    return column.buffers[0][0] + first, last - first + 1


def _items(column: _Column, start: int, count: int, kind: pa.DataType) -> Span:
    width = kind.bit_width // 8
    return column.buffers[1][0] + start * width, count * width


def _validity(bits: np.ndarray, start: int) -> pa.Buffer | None:
    """Arrow's bits, the first of which is that of row ``start``."""
    if not len(bits):
        return None
    own = np.unpackbits(bits, bitorder="little")[start % 8 :]
    return pa.py_buffer(np.packbits(own, bitorder="little"))


def _is_bytes(kind: pa.DataType) -> bool:
    return kind in (pa.string(), pa.binary(), *_LARGE_BYTES)


def _is_large(kind: pa.DataType) -> bool:
    """Whether offsets have 64 bits."""
    return kind in _LARGE_BYTES or bool(pa.types.is_large_list(kind))
