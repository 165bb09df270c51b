"""What a store asks of the place that its files lie in: a small, flat key–bytes protocol.

Keys are relative paths with ``/``. There is no rename and no partial write at this level, so
that an object store can implement it: ``put`` makes a whole object appear at once, and
``create_exclusive`` is the one operation that two writers may race on.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from kdcache.errors import StorageError, UnfitStorageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np

FIT = "use a POSIX file system, or an object store with conditional puts (If-None-Match: *)"
"""What to do about a storage that is not fit for commits."""

Span = tuple[int, int]
"""First byte and number of bytes of a part of an object."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One stored file: its key, bytes, and when it was last written (Unix seconds)."""

    key: str
    size: int
    modified: float


class Storage(Protocol):
    """Where a cache's files lie. Methods raise StorageError where the storage fails."""

    @property
    def location(self) -> str:
        """A path or URL that opens this storage again; for messages too."""
        ...

    @property
    def place(self) -> str:
        """The location, and the service behind it where one was chosen; for messages alone."""
        ...

    @property
    def folder(self) -> Path | None:
        """The directory that holds the files, ``None`` where they lie in no file system."""
        ...

    def exists(self, key: str) -> bool:
        """Whether the object is there."""
        ...

    def read(self, key: str) -> bytes:
        """All bytes; FileNotFoundError where there is no such object."""
        ...

    def read_ranges(self, key: str, spans: Sequence[Span]) -> list[np.ndarray]:
        """Read-only uint8 arrays, one a span, shorter or empty where the object ends before.

        FileNotFoundError where there is no such object.
        """
        ...

    def map(self, key: str) -> np.ndarray:
        """All bytes as a read-only uint8 array, mapped where there is a file to map."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Make a whole object appear, durably and at once; an equal one may be replaced."""
        ...

    def create_exclusive(self, key: str, data: bytes) -> bool:
        """Like :meth:`put`, but False and nothing written where the key exists.

        An object that holds ``data`` already may be taken for the work of this call, whose
        answer was lost: data that two writers race with must name the writer.
        """
        ...

    def entries(self, prefix: str = "") -> list[StoredObject]:
        """Objects whose key starts with the folder ``prefix``, sorted by key."""
        ...

    def delete(self, key: str) -> None:
        """Remove the object if it is there."""
        ...


def probe_exclusive_create(storage: Storage) -> None:
    """Make sure that a second exclusive create of one key is refused: commits rest on it.

    Raises:
        UnfitStorageError: it is not; some object stores accept the second one silently.
        StorageError: the storage failed.
    """
    key = f"tmp/probe-{secrets.token_hex(8)}"
    try:
        if not storage.create_exclusive(key, b"first"):
            raise StorageError(f"{storage.location}: cannot create a file that is not there")
        second = storage.create_exclusive(key, b"second")
        if second or storage.read(key) != b"first":
            raise UnfitStorageError(
                f"{storage.place}: the storage lets two writers create one file, so commits are "
                f"not safe on it; {FIT}"
            )
    finally:
        storage.delete(key)
