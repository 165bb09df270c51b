"""The index: all parts of the catalogue in a few files that are opened without being read.

One Parquet part a unit is what makes commits safe, and what makes a cache of a million units
slow to open. ``kdcache compact`` writes what the parts say together, sorted, into Arrow files
that can be mapped: opening them costs neither time nor memory by the row. The index is
derived and never trusted beyond the commits: a unit that is committed later is read from its
part, and once a unit of the index is no longer committed, the index is left aside.
"""

from __future__ import annotations

import io
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc

from kdcache.errors import DamagedCacheError
from kdcache.store.catalogue import SHARD, UNIT
from kdcache.store.checksums import file_hash
from kdcache.store.commits import CommitRecord
from kdcache.store.files import FileRecord, check_mapped, map_file
from kdcache.store.ranged_table import RangedTable
from kdcache.store.seal import seal, unseal

if TYPE_CHECKING:
    import numpy as np

    from kdcache.store.storage import Storage

INDEX = "index"
INDEX_KEY = f"{INDEX}/index.json"
TABLES = ("good", "failed", "units")

CHECKED_BYTES = 1 << 30
"""A larger file of the index is hashed by ``verify`` alone: reading it all would take longer
than all else of opening. Of an object store only the columns that are asked for are fetched
then. Arrays have hashes of their own, which are always checked."""

_CODED = (UNIT, SHARD, "speaker")


@dataclass(frozen=True, slots=True)
class Index:
    """What ``kdcache compact`` found.

    Attributes:
        spec_hash: of the cache.
        good: rows of good utterances, sorted by id, one record batch; of a large index in an
            object store, columns on demand.
        failed: rows of failed ones that no unit has good, sorted by id.
        units: ``unit``, sorted; ``commit`` (the record's file); ``bytes`` of all its files.
        names: of the units.
    """

    spec_hash: str
    good: pa.Table | RangedTable
    failed: pa.Table
    units: pa.Table
    names: list[str]

    def commit(self, number: int) -> CommitRecord:
        """The commit record of the unit of that number."""
        return CommitRecord.from_bytes(self.units["commit"][number].as_py(), self.names[number])

    @property
    def nbytes(self) -> int:
        """Bytes of all files that the commits made visible, and of their records."""
        return int(pc.sum(self.units["bytes"]).as_py() or 0)


def save_index(
    storage: Storage,
    spec_hash: str,
    good: pa.Table,
    failed: pa.Table,
    commits: Mapping[str, CommitRecord],
) -> list[FileRecord]:
    """Write the index and then, at once, make it the one that counts; its tables' files."""
    tables = {"good": _compact(good), "failed": _compact(failed), "units": _units(commits)}
    records = {}
    for name in TABLES:
        data = _to_ipc(tables[name])
        digest = file_hash(data)
        record = FileRecord(f"{INDEX}/{name}-{digest[:16]}.arrow", len(data), digest)
        storage.put(record.path, data)
        records[name] = record
    head = {name: record.to_dict() for name, record in records.items()}
    storage.put(INDEX_KEY, seal({"spec_hash": spec_hash, **head}))
    return list(records.values())


def drop_index(storage: Storage) -> None:
    """Let no reader use it any more; its files are garbage then."""
    storage.delete(INDEX_KEY)


def index_files(storage: Storage) -> list[FileRecord]:
    """The tables of the index, none where there is no index.

    Raises:
        DamagedCacheError: its head is not what was written.
    """
    return [] if (head := _head(storage)) is None else [head[1][name] for name in TABLES]


def load_index(storage: Storage, spec_hash: str, committed: set[str]) -> Index | None:
    """The index, where there is one of this spec whose units are all committed.

    Raises:
        DamagedCacheError: its files are not what was written.
    """
    head = _head(storage)
    if head is None or head[0] != spec_hash:
        return None
    units = _open(storage, head[1]["units"])
    names: list[str] = units[UNIT].to_pylist()
    if not committed.issuperset(names):
        # A unit was taken out since; the rows of its utterances may not be what counts.
        return None
    rows = head[1]["good"]
    ranged = storage.folder is None and rows.size > CHECKED_BYTES
    good = RangedTable(storage, rows) if ranged else _open(storage, rows)
    return Index(spec_hash, good, _open(storage, head[1]["failed"]), units, names)


def whole(table: pa.Table | RangedTable) -> pa.Table:
    """All columns, in memory or mapped."""
    return table.whole() if isinstance(table, RangedTable) else table


def plain(table: pa.Table) -> pa.Table:
    """Rows of an index with the types of catalogue parts."""
    fields = [pa.field(field.name, _plain_type(field.type)) for field in table.schema]
    return table.cast(pa.schema(fields))


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """A column in one piece; what is so already is not copied, as combining would do."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


class SortedStrings(Sequence[str]):
    """A sorted column of strings that stays where it is."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        self._values = one_array(column)

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, index: Any) -> Any:
        found = self._values[index]
        return found.to_pylist() if isinstance(index, slice) else found.as_py()

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self._values), 65_536):
            yield from self._values.slice(start, 65_536).to_pylist()


class RowsById(Mapping[str, int]):
    """Row by id, by bisection: no dictionary of all ids is ever built."""

    def __init__(self, ids: SortedStrings) -> None:
        self._ids = ids

    def __getitem__(self, key: str) -> int:
        row = bisect_left(self._ids, key)
        if row < len(self._ids) and self._ids[row] == key:
            return row
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)


class ShardsByRow(Sequence[FileRecord]):
    """The shard of each row, through its unit's number."""

    def __init__(self, index: Index) -> None:
        units = one_array(index.good[UNIT])
        self._codes: np.ndarray = units.indices.to_numpy(zero_copy_only=False)
        self._numbers = {name: number for number, name in enumerate(index.names)}
        self._names: list[str] = units.dictionary.to_pylist()
        self._index = index
        self._known: dict[int, FileRecord] = {}

    def __len__(self) -> int:
        return len(self._codes)

    def __getitem__(self, row: Any) -> Any:
        code = int(self._codes[row])
        if code not in self._known:
            name = self._names[code]
            shard = self._index.commit(self._numbers[name]).shard
            if shard is None:
                raise DamagedCacheError(f"{INDEX_KEY}: unit {name} has no shard, but utterances")
            self._known[code] = shard
        return self._known[code]


def _head(storage: Storage) -> tuple[str, dict[str, FileRecord]] | None:
    try:
        value = unseal(storage.read(INDEX_KEY), INDEX_KEY)
    except FileNotFoundError:
        return None
    try:
        return value["spec_hash"], {name: FileRecord.from_dict(value[name]) for name in TABLES}
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedCacheError(f"{INDEX_KEY}: {error!r} while reading it") from error


def _open(storage: Storage, record: FileRecord) -> pa.Table:
    data = map_file(storage, record)
    if record.size <= CHECKED_BYTES:
        check_mapped(storage, record, data)
    try:
        table = pa.ipc.open_file(pa.BufferReader(pa.py_buffer(data))).read_all()
        table.validate()
    except (pa.ArrowException, OSError) as error:
        raise DamagedCacheError(f"{record.path}: {error}") from error
    return table


def _to_ipc(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema) as writer:
        # One batch, so that each column is one array and can be viewed whole.
        writer.write_table(table, max_chunksize=max(1, table.num_rows))
    return sink.getvalue()


def _compact(table: pa.Table) -> pa.Table:
    """Repeated strings as codes, the others with 64-bit offsets; one chunk a column."""
    fields = [pa.field(f.name, _compact_type(f)) for f in table.schema]
    return table.combine_chunks().cast(pa.schema(fields)).combine_chunks().unify_dictionaries()


def _compact_type(field: pa.Field) -> pa.DataType:
    if field.name in _CODED:
        return pa.dictionary(pa.int32(), pa.string())
    if pa.types.is_string(field.type):
        return pa.large_string()
    if pa.types.is_list(field.type):
        return pa.large_list(field.type.value_type)
    return field.type


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind) or pa.types.is_large_string(kind):
        return pa.string()
    return pa.list_(kind.value_type) if pa.types.is_large_list(kind) else kind


def _units(commits: Mapping[str, CommitRecord]) -> pa.Table:
    names = sorted(commits)
    files = [commits[name].to_bytes() for name in names]
    sizes = [sum(file.size for file in commits[name].files) for name in names]
    return pa.table(
        {
            UNIT: pa.array(names, pa.string()),
            "commit": pa.array(files, pa.large_binary()),
            "bytes": pa.array([len(f) + s for f, s in zip(files, sizes, strict=True)], pa.int64()),
        }
    )
