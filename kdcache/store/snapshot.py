"""The catalogue as it was at one moment: loaded parts, sorted, with places in numpy.

N is the number of good utterances. Two units may hold one utterance; the row of the unit
whose name sorts first counts, so that every reader of the same commits sees the same rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kdcache.errors import DamagedCacheError
from kdcache.store.catalogue import SHARD, UNIT, empty_part, read_part
from kdcache.store.commits import CommitRecord, committed_units, load_commit
from kdcache.store.files import FileRecord, check_file
from kdcache.store.index import ShardsByRow, load_index, plain, whole
from kdcache.store.ranged_ids import RangedIds
from kdcache.store.ranged_table import RangedTable
from kdcache.store.sorted_strings import RowsById, SortedStrings, one_array

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kdcache.codec import ColumnSpec
    from kdcache.store.index import Index
    from kdcache.store.storage import Storage

_LOADING_THREADS = 8


@dataclass(frozen=True, slots=True)
class Places:
    """Where one column of each utterance is.

    Attributes:
        dtype: of its elements, little-endian.
        optional: an utterance may lack it.
        at_N: int64 first byte in the shard's file; −1 where the utterance has none.
        shape_NA: int32 (N, axes).
        hash_N: uint64 xxh3-64 of its bytes.
    """

    dtype: np.dtype[Any]
    optional: bool
    at_N: np.ndarray
    shape_NA: np.ndarray
    hash_N: np.ndarray


@dataclass(frozen=True, slots=True)
class Unit:
    """A commit and its part of the catalogue."""

    commit: CommitRecord
    table: pa.Table


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is visible.

    Attributes:
        units: by name; those that an index stands for are not among them.
        index: stands for the units that it names; ``None`` where all are in ``units``.
        columns: of good utterances by name, sorted by id.
        failures: failed ones that no unit has good, sorted by id.
        ids: of the good ones, in row order.
        rows: row by id.
        shards: the shard file of each row.
        places: by column.
    """

    units: dict[str, Unit]
    index: Index | None
    columns: pa.Table | RangedTable
    failures: pa.Table
    ids: Sequence[str]
    rows: Mapping[str, int]
    shards: Sequence[FileRecord]
    places: Mapping[str, Places]

    @property
    def catalogue(self) -> pa.Table:
        """Good utterances, sorted by id, with all columns."""
        return whole(self.columns)

    @property
    def unit_names(self) -> list[str]:
        """All units, sorted."""
        return sorted([*self.units, *(self.index.names if self.index else ())])

    @property
    def nbytes(self) -> int:
        """Bytes of the commit records and of all files that they made visible."""
        commits = [unit.commit for unit in self.units.values()]
        size = sum(len(c.to_bytes()) + sum(file.size for file in c.files) for c in commits)
        return size + (self.index.nbytes if self.index else 0)


def load_snapshot(
    storage: Storage,
    columns: Mapping[str, ColumnSpec],
    spec_hash: str,
    known: Snapshot | None = None,
    *,
    use_index: bool = True,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Snapshot:
    """Load what is committed now; what ``known`` has is not read again.

    Args:
        storage: of the cache.
        columns, spec_hash: what its header says.
        known: an earlier snapshot.
        use_index: take the index's word for the units that it names.
        progress: called with (parts read, parts to read).

    Raises:
        DamagedCacheError: a commit record or a part is not what was written.
    """
    units = known.units if known else {}
    committed = committed_units(storage)
    index = _index(storage, spec_hash, committed) if use_index else None
    names = sorted(committed.difference(index.names) if index else committed)
    with ThreadPoolExecutor(_LOADING_THREADS) as pool:
        fresh = [name for name in names if name not in units]
        tables = pool.map(lambda name: _load(storage, name, spec_hash), fresh)
        loaded = {}
        for name, table in zip(fresh, tables, strict=True):
            loaded[name] = table
            progress(len(loaded), len(fresh))
    if index and not names:
        return _mapped(index, columns)
    return _assemble({name: units.get(name) or loaded[name] for name in names}, index, columns)


def _index(storage: Storage, spec_hash: str, committed: set[str]) -> Index | None:
    """The index; a damaged one is as good as none, since the parts say the same."""
    try:
        return load_index(storage, spec_hash, committed)
    except DamagedCacheError:
        return None


def load_part(storage: Storage, commit: CommitRecord) -> pa.Table:
    """A commit's part of the catalogue, checked; DamagedCacheError where it is not."""
    data = check_file(storage, commit.catalogue)
    try:
        table = read_part(data)
    except (pa.ArrowException, OSError, KeyError, TypeError) as error:
        raise DamagedCacheError(f"{commit.catalogue.path}: {error}") from error
    shard = None if commit.shard is None else commit.shard.path
    if any(value != shard for value in table[SHARD].unique().to_pylist()):
        raise DamagedCacheError(f"{commit.catalogue.path}: it is not about {shard}")
    return table


def _load(storage: Storage, name: str, spec_hash: str) -> Unit:
    commit = load_commit(storage, name)
    if commit.spec_hash != spec_hash:
        raise DamagedCacheError(f"commits/{name}.json: it belongs to a cache of another spec")
    return Unit(commit, load_part(storage, commit))


def _mapped(index: Index, columns: Mapping[str, ColumnSpec]) -> Snapshot:
    """Nothing but the index: no row is touched before it is asked for."""
    ranged = isinstance(index.good, RangedTable)
    ids = RangedIds(index.good) if ranged else SortedStrings(index.good["id"])
    return Snapshot(
        units={},
        index=index,
        columns=index.good,
        failures=index.failed,
        ids=ids,
        rows=RowsById(ids),
        shards=ShardsByRow(index),
        places=LazyPlaces(index.good, columns),
    )


def only_row(snapshot: Snapshot, row: int, columns: Mapping[str, ColumnSpec]) -> Snapshot:
    """A snapshot as if this row were all; where columns come on demand, it is fetched alone."""
    table, index = snapshot.columns, snapshot.index
    if isinstance(table, RangedTable) and index is not None:
        own = plain(table.rows.slice(row, 1, table.column_names))
        shard = index.shard(own[UNIT][0].as_py())
    else:
        own, shard = whole(table).slice(row, 1), snapshot.shards[row]
    return replace(
        snapshot,
        columns=own,
        ids=[name := own["id"][0].as_py()],
        rows={name: 0},
        shards=[shard],
        places=LazyPlaces(own, columns),
    )


def _assemble(
    units: dict[str, Unit], index: Index | None, columns: Mapping[str, ColumnSpec]
) -> Snapshot:
    tables = [empty_part(columns), *(unit.table for unit in units.values())]
    if index is not None:
        tables += [plain(whole(index.good)), plain(index.failed)]
    table = pa.concat_tables(tables, promote_options="default")
    good = _first_of_each(table.filter(pc.is_null(table["error"])))
    failed = _first_of_each(table.filter(pc.is_valid(table["error"])))
    failed = failed.filter(pc.invert(pc.is_in(failed["id"], value_set=good["id"].combine_chunks())))
    ids: list[str] = good["id"].to_pylist()
    files = {name: unit.commit.shard for name, unit in units.items()}
    if index is not None:
        files |= {name: index.commit(number).shard for number, name in enumerate(index.names)}
    return Snapshot(
        units=units,
        index=index,
        columns=good,
        failures=failed,
        ids=ids,
        rows={utterance_id: row for row, utterance_id in enumerate(ids)},
        shards=_shards(good[UNIT].to_pylist(), files),
        places=LazyPlaces(good, columns),
    )


class LazyPlaces(Mapping[str, Places]):
    """Places by column, each worked out when it is first asked for."""

    def __init__(self, table: pa.Table | RangedTable, columns: Mapping[str, ColumnSpec]) -> None:
        self._table, self._columns = table, columns
        self._known: dict[str, Places] = {}

    def __getitem__(self, name: str) -> Places:
        if name not in self._known:
            self._known[name] = _places(self._table, name, self._columns[name])
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


def places_of(table: pa.Table, columns: Mapping[str, ColumnSpec]) -> dict[str, Places]:
    """Where each column of the good utterances in ``table`` is, row by row."""
    return {name: _places(table, name, spec) for name, spec in columns.items()}


def _first_of_each(table: pa.Table) -> pa.Table:
    """Rows sorted by id and unit, the first of each id."""
    table = table.sort_by([("id", "ascending"), (UNIT, "ascending")]).combine_chunks()
    ids = np.array(table["id"].to_pylist(), object)
    first = np.ones(len(ids), bool)
    first[1:] = ids[1:] != ids[:-1]
    return table.filter(pa.array(first)).combine_chunks()


def _shards(units: Sequence[str], files: Mapping[str, FileRecord | None]) -> list[FileRecord]:
    shards = []
    for unit in units:
        shard = files[unit]
        if shard is None:
            raise DamagedCacheError(f"commits/{unit}.json: no shard, but utterances that need one")
        shards.append(shard)
    return shards


def _places(table: pa.Table | RangedTable, name: str, spec: ColumnSpec) -> Places:
    at_N, hash_N = (
        _numbers(table[f"{of}.{name}"], absent) for of, absent in (("at", -1), ("xxh3", 0))
    )
    lists = one_array(table[f"shape.{name}"])
    values = lists.flatten().to_numpy(zero_copy_only=False).reshape(-1, spec.ndim)
    shape_NA = values
    if lists.null_count:
        shape_NA = np.full((len(lists), spec.ndim), -1, np.int32)
        shape_NA[lists.is_valid().to_numpy(zero_copy_only=False)] = values
    return Places(np.dtype(spec.dtype).newbyteorder("<"), spec.optional, at_N, shape_NA, hash_N)


def _numbers(column: pa.ChunkedArray, absent: int) -> np.ndarray:
    """A column's values, viewed where they lie in one piece and none is null."""
    if column.null_count:
        column = column.fill_null(absent)
    numbers: np.ndarray = column.to_numpy()
    return numbers
