"""Spans of shard files: views of mapped ones, or ranged requests. Safe from several threads."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING, Protocol

from kdcache.errors import DamagedCacheError
from kdcache.store.files import map_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from kdcache.store.files import FileRecord
    from kdcache.store.storage import Span, Storage


class ShardReader(Protocol):
    """Takes spans out of shards."""

    def read(self, file: FileRecord, spans: Sequence[Span]) -> list[np.ndarray]:
        """uint8 bytes of each span, short where the file ends before.

        Raises:
            DamagedCacheError: the file is missing or cut short.
        """
        ...


def make_reader(storage: Storage) -> ShardReader:
    """Mapped files where there is a file system, else ranged requests."""
    return RangedFiles(storage) if storage.folder is None else MappedFiles(storage)


class RangedFiles:
    """Fetches what is asked for, and nothing else; each read is a request or a few."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def read(self, file: FileRecord, spans: Sequence[Span]) -> list[np.ndarray]:
        """See :class:`ShardReader`; a file that was cut short gives short spans."""
        try:
            return self._storage.read_ranges(file.path, spans)
        except FileNotFoundError:
            raise DamagedCacheError(f"{file.path}: the file is missing") from None


class MappedFiles:
    """Maps files on first use; the least recently used beyond ``limit`` are let go.

    An array handed out keeps its mapping alive for as long as it lives.
    """

    def __init__(self, storage: Storage, limit: int = 256) -> None:
        self._storage = storage
        self._limit = limit
        self._lock = Lock()
        self._open: OrderedDict[str, np.ndarray] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def read(self, file: FileRecord, spans: Sequence[Span]) -> list[np.ndarray]:
        """See :class:`ShardReader`; nothing is copied."""
        data = self.get(file)
        return [data[start : start + length] for start, length in spans]

    def forget(self, path: str) -> None:
        """Let go of a file; arrays that were handed out keep it as long as they live."""
        with self._lock:
            self._open.pop(path, None)

    def get(self, file: FileRecord) -> np.ndarray:
        """The file's bytes as uint8; DamagedCacheError where it is missing or cut short."""
        with self._lock:
            if file.path in self._open:
                self._open.move_to_end(file.path)
                return self._open[file.path]
        data = map_file(self._storage, file)
        with self._lock:
            self._open[file.path] = data
            while len(self._open) > self._limit:
                self._open.popitem(last=False)
        return data
