"""Writing a cache: create it or open it again, then commit units of work.

A commit writes the shard, then the catalogue part, both under names that hold their hash,
and then creates the commit record exclusively. Killed anywhere in between, it leaves files
that nothing refers to, and the unit is as undone as before.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import TYPE_CHECKING

from kdcache.errors import ConfigError, NotACacheError, SpecMismatchError
from kdcache.store.catalogue import CATALOGUE, build_part
from kdcache.store.commits import (
    COMMITS,
    CommitRecord,
    commit_key,
    committed_units,
    load_commit,
    parse_unit_name,
)
from kdcache.store.files import FileRecord
from kdcache.store.header import HEADER, TOKENIZER, Header, load_header
from kdcache.store.index import INDEX
from kdcache.store.layout import make_layout
from kdcache.store.local import TEMPORARY
from kdcache.store.packed import parse_unit
from kdcache.store.places import local_folder, open_storage
from kdcache.store.quarantine import QUARANTINE
from kdcache.store.spec import first_difference
from kdcache.store.storage import probe_exclusive_create
from kdcache.version import __version__

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from kdcache.codec import ColumnSpec
    from kdcache.store.choice import Choice
    from kdcache.store.packed import FailedUtterance, PackedUtterance
    from kdcache.store.spec import CacheSpec
    from kdcache.store.storage import Storage

DATA = "data"
RUNS = "runs"
"""Where extractions leave their events files; no reader of the cache looks at them."""

_OWN = (HEADER, TOKENIZER, DATA, CATALOGUE, COMMITS, TEMPORARY, QUARANTINE, INDEX, RUNS)


@dataclass(frozen=True, slots=True)
class CommitResult:
    """What became of a commit.

    Attributes:
        won: False where the unit was committed already, by this writer or another.
        unit: its name.
        attempt: id of the attempt that is visible.
        bytes: of the shard and the catalogue part that are visible.
        utterances, failed: what is visible of either sort.
    """

    won: bool
    unit: str
    attempt: str
    bytes: int
    utterances: int
    failed: int


class CacheWriter:
    """Commits units into one cache. Holds nothing open; any number may write at once."""

    def __init__(self, storage: Storage, header: Header) -> None:
        self._storage = storage
        self._layout = make_layout(header.layout)
        self._spec = header.spec
        self._columns = header.columns
        self._spec_hash = header.spec.spec_hash

    @property
    def location(self) -> str:
        """The path or URL of the cache."""
        return self._storage.location

    @property
    def path(self) -> Path:
        """The cache's directory; ConfigError where it lies in an object store."""
        return local_folder(self._storage)

    @property
    def spec(self) -> CacheSpec:
        """What the cache is made of, every setting spelt out."""
        return self._spec

    @property
    def layout(self) -> str:
        """``zarr`` or ``webdataset``."""
        return self._layout.name

    @property
    def columns(self) -> dict[str, ColumnSpec]:
        """The arrays that each utterance must bring."""
        return dict(self._columns)

    def committed_units(self) -> set[str]:
        """Names of the units that are visible now."""
        return committed_units(self._storage)

    def commit(
        self,
        unit: str,
        packed: Sequence[PackedUtterance],
        failed: Sequence[FailedUtterance],
        attempt: str,
    ) -> CommitResult:
        """Make a unit visible, all of it or nothing; the first writer wins.

        Args:
            unit: name of the unit of work: letters, digits, ``.``, ``_`` and ``-``.
            packed: its utterances, in the order to store them in.
            failed: those that could not be used.
            attempt: an id of this attempt, for whoever wonders who won.

        Raises:
            ConfigError: an utterance twice, or columns that are not the cache's.
            StorageError: the storage failed; the unit is not visible.
        """
        key = commit_key(parse_unit_name(unit))
        if self._storage.exists(key):
            return self._result(load_commit(self._storage, unit), won=False)
        record = self._write_files(unit, packed, failed, attempt)
        if self._storage.create_exclusive(key, record.to_bytes()):
            return self._result(record, won=True)
        return self._result(load_commit(self._storage, unit), won=False)

    def _write_files(
        self,
        unit: str,
        packed: Sequence[PackedUtterance],
        failed: Sequence[FailedUtterance],
        attempt: str,
    ) -> CommitRecord:
        items = parse_unit(packed, failed, self._columns)
        shard, offsets = None, list[dict[str, int]]()
        if items:
            built = self._layout.build(items, self._columns)
            shard = self._put(DATA, unit, self._layout.suffix, built.data)
            offsets = built.offsets
        path = None if shard is None else shard.path
        part = build_part(unit, path, items, offsets, failed, self._columns)
        catalogue = self._put(CATALOGUE, unit, ".parquet", part)
        return CommitRecord(
            unit, attempt, self._spec_hash, shard, catalogue, len(items), len(failed)
        )

    def _put(self, folder: str, unit: str, suffix: str, data: bytes) -> FileRecord:
        digest = FileRecord.of("", data).xxh3
        record = FileRecord(f"{folder}/{unit}-{digest[:16]}{suffix}", len(data), digest)
        self._storage.put(record.path, data)
        return record

    def _result(self, record: CommitRecord, won: bool) -> CommitResult:
        size = sum(file.size for file in record.files)
        return CommitResult(
            won, record.unit, record.attempt, size, record.utterances, record.failed
        )


def create_or_open(
    path: str | os.PathLike[str],
    spec: CacheSpec,
    layout: str,
    tokenizer_files: Mapping[str, bytes],
    choices: Sequence[Choice] = (),
) -> CacheWriter:
    """A writer of the cache at ``path``, which is created where there is none.

    Args:
        path: a directory or URL where there is nothing, or a cache of the same spec and layout.
        spec: what the cache is made of; codec settings left out take their defaults.
        layout: ``zarr`` or ``webdataset``.
        tokenizer_files: contents by file name, kept in ``tokenizer/``.
        choices: how settings came about, told in a cache that is created.

    Raises:
        ConfigError: a spec or layout that cannot be.
        SpecMismatchError: there is a cache with another spec or layout.
        NotACacheError: the directory holds something else.
        UnfitStorageError: the storage lets two writers create one file.
        StorageError: it failed.
    """
    make_layout(layout)
    spec = spec.normalised()
    wanted = Header(layout, spec, spec.columns(), (), choices=tuple(choices))
    return create_as(open_storage(path), wanted, tokenizer_files)


def create_as(
    storage: Storage, wanted: Header, tokenizer_files: Mapping[str, bytes]
) -> CacheWriter:
    """:func:`create_or_open` with a header that is complete but for the tokenizer's files."""
    if not storage.exists(HEADER):
        check_vacant(storage)
        probe_exclusive_create(storage)
        _create(storage, wanted, tokenizer_files)
    else:
        probe_exclusive_create(storage)
    header = load_header(storage)
    _check_same(storage, header, wanted.spec, wanted.layout)
    return CacheWriter(storage, header)


def open_for_write(path: str | os.PathLike[str]) -> CacheWriter:
    """A writer of the cache that is at ``path``, whatever its spec.

    Raises:
        NotACacheError: there is none. UnfitStorageError, StorageError: see
            :func:`create_or_open`.
    """
    storage = open_storage(path)
    header = load_header(storage)
    probe_exclusive_create(storage)
    return CacheWriter(storage, header)


def _create(storage: Storage, header: Header, tokenizer_files: Mapping[str, bytes]) -> None:
    records = []
    for name, data in sorted(tokenizer_files.items()):
        if PurePath(name).name != name or name in ("", ".."):
            raise ConfigError(f"expected the name of a tokenizer's file, got {name!r}")
        record = FileRecord.of(f"{TOKENIZER}/{name}", data)
        storage.put(record.path, data)
        records.append(record)
    made = replace(header, tokenizer_files=tuple(records), kdcache_version=__version__)
    # Of two creators one loses here, and then compares its spec with the winner's.
    storage.create_exclusive(HEADER, made.to_bytes())


def check_vacant(storage: Storage) -> None:
    """Nothing is there that is no part of a cache; what a creation that was killed leaves behind
    is as good as nothing.

    Raises:
        NotACacheError: there is.
    """
    for entry in storage.entries():
        if entry.key.split("/", 1)[0] not in _OWN:
            raise NotACacheError(
                f"{storage.location} holds other files ({entry.key}) and no cache: "
                "choose a directory that is new or empty"
            )


def _check_same(storage: Storage, header: Header, spec: CacheSpec, layout: str) -> None:
    found = first_difference(
        {"layout": header.layout, **header.spec.to_dict()}, {"layout": layout, **spec.to_dict()}
    )
    if found:
        raise SpecMismatchError(
            f"{storage.location} was made with other settings: {found}; "
            "use these settings again, or another directory"
        )
