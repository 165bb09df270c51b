"""The catalogue as it was at one moment: loaded parts, sorted, with places in numpy.

N is the number of good utterances. Two units may hold one utterance; the row of the unit
whose name sorts first counts, so that every reader of the same commits sees the same rows.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kdcache.errors import DamagedCacheError
from kdcache.store.catalogue import SHARD, UNIT, empty_part, read_part
from kdcache.store.commits import CommitRecord, committed_units, load_commit
from kdcache.store.files import FileRecord, check_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kdcache.codec import ColumnSpec
    from kdcache.store.storage import Storage

_LOADING_THREADS = 8


@dataclass(frozen=True, slots=True)
class Places:
    """Where one column of each utterance is.

    Attributes:
        dtype: of its elements, little-endian.
        optional: an utterance may lack it.
        at_N: int64 first byte in the shard's file; −1 where the utterance has none.
        shape_NA: int64 (N, axes).
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
        units: by name.
        catalogue: good utterances, sorted by id.
        failures: failed ones that no unit has good, sorted by id.
        ids: of the good ones, in row order.
        rows: row by id.
        shards: the shard file of each row.
        places: by column.
    """

    units: dict[str, Unit]
    catalogue: pa.Table
    failures: pa.Table
    ids: list[str]
    rows: dict[str, int]
    shards: list[FileRecord]
    places: dict[str, Places]


def load_snapshot(
    storage: Storage,
    columns: Mapping[str, ColumnSpec],
    spec_hash: str,
    known: Mapping[str, Unit] | None = None,
) -> Snapshot:
    """Load what is committed now; units in ``known`` are not read again.

    Raises:
        DamagedCacheError: a commit record or a part is not what was written.
    """
    known = known or {}
    names = sorted(committed_units(storage))
    with ThreadPoolExecutor(_LOADING_THREADS) as pool:
        fresh = [name for name in names if name not in known]
        tables = pool.map(lambda name: _load(storage, name, spec_hash), fresh)
        loaded = dict(zip(fresh, tables, strict=True))
    return _assemble({name: known.get(name) or loaded[name] for name in names}, columns)


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


def _assemble(units: dict[str, Unit], columns: Mapping[str, ColumnSpec]) -> Snapshot:
    tables = [empty_part(columns), *(unit.table for unit in units.values())]
    table = pa.concat_tables(tables, promote_options="default")
    good = _first_of_each(table.filter(pc.is_null(table["error"])))
    failed = _first_of_each(table.filter(pc.is_valid(table["error"])))
    failed = failed.filter(pc.invert(pc.is_in(failed["id"], value_set=good["id"].combine_chunks())))
    ids: list[str] = good["id"].to_pylist()
    files = {name: unit.commit.shard for name, unit in units.items()}
    return Snapshot(
        units=units,
        catalogue=good,
        failures=failed,
        ids=ids,
        rows={utterance_id: row for row, utterance_id in enumerate(ids)},
        shards=_shards(good[UNIT].to_pylist(), files),
        places=places_of(good, columns),
    )


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


def _places(table: pa.Table, name: str, spec: ColumnSpec) -> Places:
    at_N = table[f"at.{name}"].fill_null(-1).to_numpy().astype(np.int64)
    lists = table[f"shape.{name}"].combine_chunks()
    shape_NA = np.full((table.num_rows, spec.ndim), -1, np.int64)
    there = lists.is_valid().to_numpy(zero_copy_only=False)
    shape_NA[there] = lists.flatten().to_numpy(zero_copy_only=False).reshape(there.sum(), spec.ndim)
    hash_N = table[f"xxh3.{name}"].fill_null(0).to_numpy().astype(np.uint64)
    return Places(np.dtype(spec.dtype).newbyteorder("<"), spec.optional, at_N, shape_NA, hash_N)
