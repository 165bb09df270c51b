"""What a store asks of the place that its files lie in: a small, flat key–bytes protocol.

Keys are relative paths with ``/``. There is no rename and no partial write at this level, so
that an object store can implement it: ``put`` makes a whole object appear at once, and
``create_exclusive`` is the one operation that two writers may race on.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from kdcache.errors import StorageError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One stored file: its key, bytes, and when it was last written (Unix seconds)."""

    key: str
    size: int
    modified: float


class Storage(Protocol):
    """Where a cache's files lie. Methods raise StorageError where the storage fails."""

    @property
    def root(self) -> Path:
        """The cache's path, for messages and for files that are opened by others."""
        ...

    def exists(self, key: str) -> bool:
        """Whether the object is there."""
        ...

    def read(self, key: str) -> bytes:
        """All bytes; FileNotFoundError where there is no such object."""
        ...

    def read_range(self, key: str, start: int, length: int) -> bytes:
        """``length`` bytes from ``start``, fewer at the end of the object."""
        ...

    def map(self, key: str) -> np.ndarray:
        """All bytes as a read-only uint8 array, not copied where the storage can do so."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Make a whole object appear, durably and at once; an equal one may be replaced."""
        ...

    def create_exclusive(self, key: str, data: bytes) -> bool:
        """Like :meth:`put`, but False and nothing written where the key exists."""
        ...

    def entries(self, prefix: str = "") -> list[StoredObject]:
        """Objects whose key starts with the folder ``prefix``, sorted by key."""
        ...

    def delete(self, key: str) -> None:
        """Remove the object if it is there."""
        ...


def probe_exclusive_create(storage: Storage) -> None:
    """Raise StorageError unless a second exclusive create of one key is refused.

    Commits rest on this alone, and some storages accept the second one silently.
    """
    key = f"tmp/probe-{secrets.token_hex(8)}"
    try:
        if not storage.create_exclusive(key, b"first"):
            raise StorageError(f"{storage.root}: cannot create a file that is not there")
        second = storage.create_exclusive(key, b"second")
        if second or storage.read(key) != b"first":
            raise StorageError(
                f"{storage.root}: the storage lets two writers create one file, so commits are "
                "not safe on it; use a local or POSIX file system"
            )
    finally:
        storage.delete(key)
