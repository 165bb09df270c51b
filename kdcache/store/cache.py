"""Reading a cache: a mapping from utterance ids to decoded targets.

    cache = open_cache("runs/cache")
    cache["1188-133604-0003"]["lattice"].logp_TSC

A ``Cache`` shows what was committed when it was opened or last refreshed. Reading takes no
lock for longer than a look-up and may be done from any number of threads.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from kdcache.errors import (
    ConfigError,
    DamagedCacheError,
    UnknownUtteranceError,
    did_you_mean,
    nearest,
)
from kdcache.store.columns import read_column, span_of
from kdcache.store.digest import content_digest
from kdcache.store.fetched import FetchedFiles
from kdcache.store.fetched_shards import FetchedShards
from kdcache.store.header import TOKENIZER, load_header
from kdcache.store.mapping import make_reader
from kdcache.store.places import local_folder, open_storage
from kdcache.store.ranged_table import RangedTable
from kdcache.store.rows import read_rows
from kdcache.store.shards import shards_of_rows
from kdcache.store.snapshot import load_snapshot, only_row
from kdcache.store.sorted_strings import place_of
from kdcache.store.spec import AUDIO

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from kdcache.codec import ColumnSpec, Record, RecordCodec
    from kdcache.store.choice import Choice
    from kdcache.store.disk_cache import DiskCache
    from kdcache.store.mapping import ShardReader
    from kdcache.store.shards import ShardsOfRows
    from kdcache.store.snapshot import Places, Snapshot
    from kdcache.store.spec import CacheSpec
    from kdcache.store.storage import Storage


_SEARCHED = 10_000
"""Ids on either side of where an unknown one would stand, among which its nearest are sought."""


class Cache(Mapping[str, "dict[str, Record]"]):
    """A cache, open for reading. Made by :func:`open_cache`.

    As a mapping, ``cache[id]`` gives every decoded target of one utterance by name, and
    iterating gives the ids in row order.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        import_codecs: bool = False,
        shards: ShardReader | None = None,
    ) -> None:
        self._storage = storage
        self._header = load_header(storage)
        self._import_codecs = import_codecs
        self._codecs: dict[str, RecordCodec] = {}
        self._target_columns: dict[str, dict[str, str]] = {}
        self._shards = shards or make_reader(storage)
        self._tokenizer: FetchedFiles | None = None
        self._snapshot = self._load(None)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as its location: whoever unpickles it sees what is committed by then."""
        opener = partial(open_cache, import_codecs=self._import_codecs)
        return opener, (self._storage.location,)

    @property
    def location(self) -> str:
        """Its path or URL, as :func:`open_cache` takes it."""
        return self._storage.location

    @property
    def is_remote(self) -> bool:
        """Whether it lies in an object store."""
        return self._storage.folder is None

    @property
    def path(self) -> Path:
        """Its directory; ConfigError where it lies in an object store."""
        return local_folder(self._storage)

    @property
    def spec(self) -> CacheSpec:
        """What it is made of."""
        return self._header.spec

    @property
    def choices(self) -> dict[str, Choice]:
        """How settings came about that were chosen for a goal, by name of target."""
        return {choice.target: choice for choice in self._header.choices}

    @property
    def layout(self) -> str:
        """``zarr`` or ``webdataset``."""
        return self._header.layout

    @property
    def columns(self) -> dict[str, ColumnSpec]:
        """The stored arrays of an utterance, by name."""
        return dict(self._header.columns)

    @property
    def tokenizer_dir(self) -> Path:
        """A directory with the tokenizer's files.

        Of a cache in an object store it is a checked copy, which goes with this object.
        """
        if self._storage.folder is not None:
            return self._storage.folder / TOKENIZER
        if self._tokenizer is None:
            self._tokenizer = FetchedFiles(self._storage, self._header.tokenizer_files)
        return self._tokenizer.folder

    @property
    def catalogue(self) -> pa.Table:
        """Good utterances, a row each, sorted by id. See docs/format.md for the columns."""
        return self._snapshot.catalogue

    def catalogue_columns(self, names: Sequence[str]) -> pa.Table:
        """Some columns of :attr:`catalogue`; of a remote, large cache only these are fetched."""
        columns = self._snapshot.columns
        return pa.table({name: columns[name] for name in names})

    @property
    def catalogue_names(self) -> list[str]:
        """Names of the columns of :attr:`catalogue`; nothing is fetched."""
        return list(self._snapshot.columns.column_names)

    @property
    def failures(self) -> pa.Table:
        """Utterances that could not be used: id, text, ``error`` code and ``message``."""
        names = ["id", "text", "speaker", "duration", "error", "message", "unit"]
        return self._snapshot.failures.select(names)

    @property
    def ids(self) -> list[str]:
        """Ids of the good utterances, in row order."""
        return list(self._snapshot.ids)

    @property
    def units(self) -> list[str]:
        """Names of the committed units, sorted."""
        return self._snapshot.unit_names

    @property
    def nbytes(self) -> int:
        """Bytes of all files that belong to the cache."""
        size = len(self._header.to_bytes())
        size += sum(record.size for record in self._header.tokenizer_files)
        return size + self._snapshot.nbytes

    def shards_of_rows(self) -> ShardsOfRows:
        """The shard that holds each row of :attr:`catalogue`."""
        return shards_of_rows(self._snapshot)

    def through_disk(self, disk: DiskCache) -> tuple[Cache, FetchedShards]:
        """The same cache with its shards fetched whole to ``disk``, and what fetches them."""
        reader = FetchedShards(self._storage, disk)
        other = copy.copy(self)
        other._shards = reader
        return other, reader

    def only(self, key: str) -> Cache:
        """The same cache with no utterance but this one, to look at it and nothing else.

        Of a large index in an object store no column is fetched for it, only its row. A cache
        that does not have it is given back as it is.
        """
        snapshot = self._snapshot
        if not isinstance(snapshot.columns, RangedTable) or key not in snapshot.rows:
            return self
        other = copy.copy(self)
        other._snapshot = only_row(snapshot, snapshot.rows[key], self._header.columns)
        return other

    def refresh(self) -> None:
        """See what has been committed since."""
        self._snapshot = self._load(self._snapshot)

    def row_of(self, key: str) -> int:
        """The row of an utterance in :attr:`catalogue`; UnknownUtteranceError where none is."""
        return self._row(self._snapshot, key)

    def nearest_ids(self, key: str) -> list[str]:
        """Up to three ids most like ``key``, of good and failed utterances, the best first.

        Of a large cache those in whose neighbourhood ``key`` would stand.
        """
        snapshot = self._snapshot
        at = place_of(snapshot.ids, key)
        near = snapshot.ids[max(0, at - _SEARCHED) : at + _SEARCHED]
        failed = snapshot.failures["id"][:_SEARCHED].to_pylist()
        return nearest(key, [*near, *failed], count=3)

    def content_digest(self) -> str:
        """Hex SHA-256 of what is in it, whatever the layout, the units and their order.

        Raises nothing and reads no shard: it is over the spec and the catalogue's hashes.
        """
        return content_digest(self.spec.spec_hash, self._snapshot)

    def __len__(self) -> int:
        return len(self._snapshot.ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self._snapshot.ids)

    def __contains__(self, key: object) -> bool:
        return key in self._snapshot.rows

    def __getitem__(self, key: str) -> dict[str, Record]:
        return {target.name: self.read_target(key, target.name) for target in self.spec.targets}

    def get(self, key: str, default: Any = None) -> Any:
        """``cache[key]``, or ``default`` where there is no such utterance."""
        return self[key] if key in self._snapshot.rows else default

    def read_columns(
        self, key: str | int, names: Iterable[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Stored arrays of an utterance, checked, read-only.

        They are views of the mapped file, or, of a cache in an object store, what ranged
        requests brought.

        Args:
            key: an id, or a row of :attr:`catalogue`.
            names: columns to read; all if ``None``. An optional one may be missing.

        Raises:
            UnknownUtteranceError: no such utterance.
            ConfigError: no such column.
            DamagedCacheError: stored bytes are not what was written.
        """
        snapshot = self._snapshot
        row = self._row(snapshot, key)
        wanted = {
            name: self._places(snapshot, name)
            for name in (self._header.columns if names is None else names)
        }
        return self._read(snapshot, row, wanted)

    def read_target(self, key: str | int, name: str) -> Record:
        """One decoded target of an utterance; only its own columns are read.

        Raises:
            ConfigError: no such target, or a codec that is not to be had here.
            UnknownUtteranceError, DamagedCacheError: see :meth:`read_columns`.
        """
        return self.codec(name).decode(self.read_packed(key, [name])[name])

    def read_packed(self, key: str | int, names: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
        """Stored arrays of some targets, as their codecs take them: by target and array.

        Raises:
            ConfigError: no such target.
            UnknownUtteranceError, DamagedCacheError: see :meth:`read_columns`.
        """
        columns = {name: self._columns_of(name) for name in names}
        arrays = self.read_columns(key, [c for own in columns.values() for c in own])
        return {
            name: {array: arrays[column] for column, array in own.items() if column in arrays}
            for name, own in columns.items()
        }

    def read_packed_rows(
        self, keys: Sequence[str | int], names: Sequence[str]
    ) -> dict[str, list[dict[str, np.ndarray]]]:
        """:meth:`read_packed` of some utterances at once: by target, a mapping an utterance.

        Much faster than one by one, and the same.

        Raises:
            ConfigError: no such target.
            UnknownUtteranceError, DamagedCacheError: see :meth:`read_columns`.
        """
        snapshot = self._snapshot
        rows = [self._row(snapshot, key) for key in keys]
        columns = {name: self._columns_of(name) for name in names}
        wanted = {column: array for own in columns.values() for column, array in own.items()}
        places = [self._places(snapshot, column) for column in wanted]
        try:
            files = [snapshot.shards[row] for row in rows]
            found = dict(zip(wanted, read_rows(self._shards, files, rows, places), strict=True))
        except DamagedCacheError:
            # One of them is damaged: read by itself, it says so by name.
            parts = [self.read_packed(row, names) for row in rows]
            return {name: [part[name] for part in parts] for name in names}
        return {name: _by_row(own, found, len(rows)) for name, own in columns.items()}

    def _columns_of(self, name: str) -> dict[str, str]:
        """Columns of a target, and what its codec calls them."""
        if name not in self._target_columns:
            prefix = f"{self.spec.target(name).name}."
            own = [column for column in self._header.columns if column.startswith(prefix)]
            self._target_columns[name] = {column: column.removeprefix(prefix) for column in own}
        return self._target_columns[name]

    def codec(self, name: str) -> RecordCodec:
        """The codec of the target ``name``."""
        if name not in self._codecs:
            self._codecs[name] = self.spec.codec(name, allow_import=self._import_codecs)
        return self._codecs[name]

    def column_shapes(self, name: str) -> np.ndarray:
        """Shapes of a column in every utterance: int64 (N, axes), −1 where one has none."""
        shapes: np.ndarray = self._places(self._snapshot, name).shape_NA.astype(np.int64)
        return shapes

    def audio(self, key: str | int) -> bytes:
        """The FLAC file of an utterance; ConfigError where the cache holds no audio."""
        if self.spec.audio == "none":
            raise ConfigError(
                f"{self.location} holds no audio: take it from the corpus, or extract with "
                "audio 'flac'"
            )
        return self.read_columns(key, [AUDIO])[AUDIO].tobytes()

    def _load(self, known: Snapshot | None) -> Snapshot:
        return load_snapshot(self._storage, self._header.columns, self.spec.spec_hash, known)

    def _read(
        self, snapshot: Snapshot, row: int, wanted: Mapping[str, Places]
    ) -> dict[str, np.ndarray]:
        """All columns in one go: of an object store, in as few requests as can be."""
        shard, name = snapshot.shards[row], ""
        spans, arrays = {}, {}
        try:
            for name, places in wanted.items():
                span = span_of(places, row)
                if span is not None:
                    spans[name] = span
            parts = self._shards.read(shard, list(spans.values()))
            for name, part in zip(spans, parts, strict=True):
                arrays[name] = read_column(part, wanted[name], row)
        except DamagedCacheError as error:
            raise DamagedCacheError(
                f"utterance {snapshot.ids[row]!r}, column {name} in {shard.path}: {error.message}; "
                "`kdcache verify` lists all damage"
            ) from error
        return arrays

    def _places(self, snapshot: Snapshot, name: str) -> Places:
        if name not in snapshot.places:
            known = ", ".join(snapshot.places)
            hint = did_you_mean(name, snapshot.places)
            raise ConfigError(f"the cache has no column {name!r}; it has: {known}.{hint}")
        return snapshot.places[name]

    def _row(self, snapshot: Snapshot, key: str | int) -> int:
        if isinstance(key, str):
            if key in snapshot.rows:
                return snapshot.rows[key]
            raise UnknownUtteranceError(self._unknown(snapshot, key))
        if 0 <= key < len(snapshot.ids):
            return int(key)
        raise UnknownUtteranceError(f"row {key} is not among the cache's {len(snapshot.ids)} rows")

    def _unknown(self, snapshot: Snapshot, key: str) -> str:
        failed = snapshot.failures
        if key in (failed_ids := failed["id"].to_pylist()):
            message = failed["message"][failed_ids.index(key)].as_py()
            return f"utterance {key!r} failed when the cache was made: {message}"
        near = self.nearest_ids(key)
        hint = f" Nearest: {', '.join(map(repr, near))}." if near else ""
        return f"no utterance {key!r} among the {len(snapshot.ids)} of {self.location}.{hint}"


def _by_row(
    columns: Mapping[str, str], found: Mapping[str, list[np.ndarray | None]], count: int
) -> list[dict[str, np.ndarray]]:
    """A target's arrays of each row, by what its codec calls them."""
    rows: list[dict[str, np.ndarray]] = [{} for _ in range(count)]
    for column, name in columns.items():
        for row, array in zip(rows, found[column], strict=True):
            if array is not None:
                row[name] = array
    return rows


def open_cache(path: str | os.PathLike[str], *, import_codecs: bool = False) -> Cache:
    """Open a cache for reading.

    Args:
        path: its directory, or a URL such as ``s3://bucket/prefix``.
        import_codecs: allow importing the module of a ``module:Class`` codec that the cache
            names. Nothing of a cache is ever run otherwise.

    Raises:
        NotACacheError: there is no cache.
        NewerFormatError: a newer kdcache wrote it.
        DamagedCacheError: its records are not what was written.
    """
    return Cache(open_storage(path), import_codecs=import_codecs)
