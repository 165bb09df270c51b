"""Mapped shard files, the most recently used kept open. Safe from several threads."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING

from kdcache.store.files import map_file

if TYPE_CHECKING:
    import numpy as np

    from kdcache.store.files import FileRecord
    from kdcache.store.storage import Storage


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
