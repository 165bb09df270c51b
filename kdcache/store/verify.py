"""Checks every byte of a cache against what was written.

Whatever is damaged is reported, not raised, and checking goes on: one call finds it all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

from kdcache.errors import DamagedCacheError, NotACacheError, StorageError
from kdcache.store.checksums import file_hash
from kdcache.store.columns import read_column, span_of
from kdcache.store.commits import commit_key, committed_units, load_commit
from kdcache.store.files import check_file, read_file
from kdcache.store.header import HEADER, Header, load_header
from kdcache.store.index import INDEX, INDEX_KEY, index_files, load_index
from kdcache.store.places import open_storage
from kdcache.store.snapshot import load_part, places_of

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    import pyarrow as pa

    from kdcache.store.commits import CommitRecord
    from kdcache.store.snapshot import Places
    from kdcache.store.storage import Storage

    Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Damage:
    """Something that is not as it was written.

    Attributes:
        file: path within the cache.
        utterance: id of the utterance that it spoils; ``None`` for a file as a whole.
        what: what is wrong, for people.
    """

    file: str
    utterance: str | None
    what: str


def verify(path: str | os.PathLike[str], progress: Progress | None = None) -> list[Damage]:
    """Read everything and report all damage, in a fixed order.

    Files that nothing refers to are no damage: ``find_garbage`` lists them.

    Args:
        path: the cache.
        progress: called with (files done, files in all) as files are done.

    Raises:
        NotACacheError: there is no cache. NewerFormatError: a newer kdcache wrote it.
    """
    storage = open_storage(path)
    units = sorted(committed_units(storage))
    damage: list[Damage] = []
    header = _header(storage, units, damage)
    tokenizer = header.tokenizer_files if header else ()
    total = 1 + len(tokenizer) + len(units) + storage.exists(INDEX_KEY)
    for done, found in enumerate(_steps(storage, header, units), start=2):
        damage += found
        if progress is not None:
            progress(min(done, total), total)
    return damage


def _header(storage: Storage, units: list[str], damage: list[Damage]) -> Header | None:
    try:
        return load_header(storage)
    except DamagedCacheError as error:
        damage.append(_damage(HEADER, error))
    except NotACacheError:
        if not units:
            raise
        damage.append(Damage(HEADER, None, "the file is missing"))
    return None


def _steps(storage: Storage, header: Header | None, units: list[str]) -> Iterator[list[Damage]]:
    for record in header.tokenizer_files if header else ():
        try:
            check_file(storage, record)
            yield []
        except (DamagedCacheError, StorageError) as error:
            yield [_damage(record.path, error)]
    for unit in units:
        yield check_unit(storage, header, unit)
    if storage.exists(INDEX_KEY):
        yield _check_index(storage, header)


def _check_index(storage: Storage, header: Header | None) -> list[Damage]:
    """The index, which is derived: `kdcache compact` writes it again."""
    damage = []
    try:
        for record in index_files(storage):
            check_file(storage, record)
        committed = committed_units(storage)
        index = load_index(storage, header.spec.spec_hash, committed) if header else None
        for number, name in enumerate(index.names if index else ()):
            if index and index.commit(number) != load_commit(storage, name):
                damage.append(Damage(INDEX_KEY, None, f"it is not about {commit_key(name)}"))
    except (DamagedCacheError, StorageError) as error:
        file, mark, what = str(error.args[0]).partition(": ")
        known = mark and file.startswith(f"{INDEX}/")
        damage.append(Damage(file if known else INDEX_KEY, None, what if known else file))
    return damage


def check_unit(storage: Storage, header: Header | None, unit: str) -> list[Damage]:
    """All damage to a visible unit; without a header, arrays are checked by file alone."""
    key = commit_key(unit)
    try:
        commit = load_commit(storage, unit)
    except (DamagedCacheError, StorageError, FileNotFoundError) as error:
        return [_damage(key, error)]
    if header and commit.spec_hash != header.spec.spec_hash:
        return [Damage(key, None, "it belongs to a cache of another spec")]
    table, damage = None, []
    try:
        table = load_part(storage, commit)
    except (DamagedCacheError, StorageError) as error:
        damage.append(_damage(commit.catalogue.path, error))
    return damage + _check_shard(storage, header, commit, table)


def _check_shard(
    storage: Storage, header: Header | None, commit: CommitRecord, table: pa.Table | None
) -> list[Damage]:
    if commit.shard is None:
        return []
    try:
        raw = read_file(storage, commit.shard)
    except (DamagedCacheError, StorageError) as error:
        return [_damage(commit.shard.path, error)]
    damage = [] if header is None or table is None else _bad_columns(raw, header, commit, table)
    if not damage and file_hash(raw) != commit.shard.xxh3:
        damage.append(Damage(commit.shard.path, None, "its bytes are not what was written"))
    return damage


def _bad_columns(raw: bytes, header: Header, commit: CommitRecord, table: pa.Table) -> list[Damage]:
    """The utterances that damage within a shard spoils, column by column."""
    good = table.filter(pc.is_null(table["error"]))
    ids = good["id"].to_pylist()
    file, data = commit.files[-1].path, np.frombuffer(raw, np.uint8)
    damage = []
    for name, places in places_of(good, header.columns).items():
        for row, utterance in enumerate(ids):
            try:
                _check_column(data, places, row)
            except DamagedCacheError as error:
                damage.append(Damage(file, utterance, f"column {name}: {error.message}"))
    return damage


def _check_column(data: np.ndarray, places: Places, row: int) -> None:
    span = span_of(places, row)
    if span is not None:
        read_column(data[span[0] : sum(span)], places, row)


def _damage(file: str, error: Exception) -> Damage:
    missing = isinstance(error, FileNotFoundError)
    text = "the file is missing" if missing else str(error.args[0])
    return Damage(file, None, text.removeprefix(f"{file}: "))
