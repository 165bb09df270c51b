"""Spans of shards that are fetched whole from an object store and kept on the local disk.

Nothing that is read was not checked: a shard against its record's hash when it arrives, and a
file that was there already when this process first opens it. Safe from several threads.
"""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import Future
from threading import Lock
from typing import TYPE_CHECKING

from kdcache.errors import DamagedCacheError, StorageError
from kdcache.store.checksums import file_hash
from kdcache.store.files import FileRecord, check_file
from kdcache.store.local import LocalStorage
from kdcache.store.mapping import MappedFiles, RangedFiles
from kdcache.store.retry import Patience, read_patiently

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import numpy as np

    from kdcache.store.disk_cache import DiskCache
    from kdcache.store.storage import Span, Storage

_TRIES = 4

_POLL = 0.05
"""Seconds between looks at what another process is fetching."""


class FetchedShards:
    """A :class:`~kdcache.store.mapping.ShardReader` of a cache that lies elsewhere.

    Args:
        storage: where the shards are.
        disk: where they are kept.
        patience: how often a shard is fetched again that did not arrive as it was written.

    Attributes:
        disk: as given.
        counts: ``hits`` (reads of a shard that was on disk), ``misses`` (that waited for one),
            ``fetched`` (shards), ``fetched_bytes``, ``refetched`` (tries again).
    """

    def __init__(self, storage: Storage, disk: DiskCache, patience: Patience | None = None) -> None:
        self.disk = disk
        self.counts: Counter[str] = Counter()
        self._storage, self._patience = storage, patience or Patience()
        self._ranged = RangedFiles(storage)
        self._mapped = MappedFiles(LocalStorage(disk.folder))
        self._lock = Lock()
        self._coming: dict[str, Future[None]] = {}
        self._reserved: dict[str, int] = {}
        self._checked: set[str] = set()
        self._damaged: set[str] = set()
        self._needed: frozenset[str] = frozenset()

    def need(self, records: Collection[FileRecord]) -> None:
        """Say what will be read soon; of all else the disk may lose what it likes."""
        self._needed = frozenset(map(self.disk.name, records))

    def read(self, file: FileRecord, spans: Sequence[Span]) -> list[np.ndarray]:
        """See :class:`~kdcache.store.mapping.ShardReader`.

        Of a shard that is damaged where it lies the spans are requested one by one: columns
        have hashes of their own, so that only utterances that are damaged are lost.

        Raises:
            DamagedCacheError: the shard is missing.
            StorageError: the storage fails for longer than patience lasts.
        """
        if file.xxh3 in self._damaged:
            return self._ranged.read(file, spans)
        try:
            data = self._have(file)
        except DamagedCacheError:
            return self._ranged.read(file, spans)
        return [data[start : start + length] for start, length in spans]

    def _have(self, file: FileRecord) -> np.ndarray:
        data = self._open(file)
        self._count(**{"misses" if data is None else "hits": 1})
        for _ in range(_TRIES):
            if data is not None:
                return data
            self.fetch(file)
            data = self._open(file)  # nothing, where another process has deleted it meanwhile
        if data is None:
            raise StorageError(
                f"{file.path}: what was written to {self.disk.folder} is not there, or is not what "
                "was written; name a directory on a healthy disk (disk_cache)"
            )
        return data

    def has_room(self, file: FileRecord) -> bool:
        """Whether it can be fetched without deleting what is needed; deletes what is not."""
        return self.disk.find(file) is not None or self._reserve(file)

    def fetch(self, file: FileRecord) -> None:
        """Have it on disk: at once if it is there, else when it has arrived.

        Raises:
            DamagedCacheError: it is missing, or not what was written, also when it was fetched
                again.
            StorageError: the storage fails for longer than patience lasts.
        """
        if file.xxh3 in self._damaged:
            raise DamagedCacheError(f"{file.path}: its bytes are not what was written")
        name = self.disk.name(file)
        with self._lock:
            coming = self._coming.get(name)
            mine = coming is None
            coming = self._coming.setdefault(name, Future())
        if not mine:
            return coming.result()
        try:
            self._arrive(file)
        except BaseException as error:
            if isinstance(error, DamagedCacheError):
                self._damaged.add(file.xxh3)
            coming.set_exception(error)
            raise
        else:
            coming.set_result(None)
        finally:
            with self._lock:
                del self._coming[name]
                self._reserved.pop(name, None)

    def _open(self, file: FileRecord) -> np.ndarray | None:
        """Its bytes, mapped; ``None`` where it is not on disk, or is not what it should be."""
        name = self.disk.name(file)
        local = FileRecord(name, file.size, file.xxh3)
        try:
            data = self._mapped.get(local)
        except DamagedCacheError:
            return None
        if name not in self._checked:
            if file_hash(data.data) != file.xxh3:
                self._forget([name])
                self.disk.discard(file)
                return None
            self._checked.add(name)
        return data

    def _arrive(self, file: FileRecord) -> None:
        """Fetch it, unless it is there or another process does."""
        if self._open_if_there(file):
            return
        while not self.disk.claim(file):
            time.sleep(_POLL)
            if self.disk.find(file) is not None:
                return
        try:
            if self._open_if_there(file):
                return
            data = read_patiently(
                lambda: check_file(self._storage, file),
                file.path,
                self._patience,
                again=lambda error: isinstance(error, DamagedCacheError),
                failed=lambda: self._count(refetched=1),
            )
            self._reserve(file)
            self.disk.add(file, data)
            self._count(fetched=1, fetched_bytes=len(data))
        finally:
            self.disk.unclaim(file)

    def _reserve(self, file: FileRecord) -> bool:
        """Make room beside what else is on its way; whether there is enough."""
        if file.xxh3 in self._damaged:
            raise DamagedCacheError(f"{file.path}: its bytes are not what was written")
        name = self.disk.name(file)
        with self._lock:
            coming = sum(size for other, size in self._reserved.items() if other != name)
            room, gone = self.disk.make_room(coming + file.size, self._needed | {name})
            if room:
                self._reserved[name] = file.size
        self._forget(gone)
        return room

    def _open_if_there(self, file: FileRecord) -> bool:
        return self.disk.find(file) is not None and self._open(file) is not None

    def _forget(self, names: Sequence[str]) -> None:
        """Let go of mappings of what was deleted, so that the disk gets its space back."""
        for name in names:
            self._mapped.forget(name)
            self._checked.discard(name)

    def _count(self, **more: int) -> None:
        with self._lock:
            self.counts.update(more)
