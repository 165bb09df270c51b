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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc

from kdcache.errors import DamagedCacheError
from kdcache.store.catalogue import SHARD, UNIT
from kdcache.store.checksums import file_hash
from kdcache.store.commits import CommitRecord
from kdcache.store.files import FileRecord, check_mapped, map_file
from kdcache.store.local import read_ahead
from kdcache.store.ranged_table import RangedTable
from kdcache.store.seal import seal, unseal
from kdcache.store.sorted_strings import one_array

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

    def shard(self, unit: str) -> FileRecord:
        """The shard of the unit of that name, which has utterances.

        Raises:
            DamagedCacheError: there is no such unit, or it has no shard.
        """
        number = bisect_left(self.names, unit)
        known = number < len(self.names) and self.names[number] == unit
        shard = self.commit(number).shard if known else None
        if shard is None:
            raise DamagedCacheError(f"{INDEX_KEY}: unit {unit} has no shard, but utterances")
        return shard

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


class ShardsByRow(Sequence[FileRecord]):
    """The shard of each row, through its unit's number."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._known: dict[int, FileRecord] = {}

    @cached_property
    def _units(self) -> tuple[np.ndarray, list[str]]:
        """Looked at when it is first needed: of a remote index it has to be fetched."""
        units = one_array(self._index.good[UNIT])
        return units.indices.to_numpy(zero_copy_only=False), units.dictionary.to_pylist()

    def __len__(self) -> int:
        return len(self._units[0])

    def __getitem__(self, row: Any) -> Any:
        codes, names = self._units
        code = int(codes[row])
        if code not in self._known:
            self._known[code] = self._index.shard(names[code])
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
    read_ahead(data)
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
