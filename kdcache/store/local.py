"""Storage on a POSIX file system: temporary name, fsync, rename or hard link, fsync.

A temporary file lies in ``tmp/`` under a random name, so that a crash leaves nothing that
looks finished. ``rename`` makes a file appear whole; ``link`` does so only where nothing is,
and is atomic on NFS as well.
"""

from __future__ import annotations

import errno
import mmap
import os
import secrets
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING

import numpy as np

from kdcache.errors import StorageError, StorageFullError
from kdcache.store.storage import StoredObject

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kdcache.store.storage import Span

TEMPORARY = "tmp"

_FULL = (errno.ENOSPC, errno.EDQUOT)


class LocalStorage:
    """Files below one directory."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self._root = Path(root)

    @property
    def location(self) -> str:
        """The directory's path."""
        return str(self._root)

    @property
    def place(self) -> str:
        """The directory's path."""
        return self.location

    @property
    def folder(self) -> Path:
        """The directory."""
        return self._root

    def exists(self, key: str) -> bool:
        """Whether there is such a file."""
        with _reported(self._root / key):
            return (self._root / key).is_file()

    def read(self, key: str) -> bytes:
        """The whole file."""
        with _reported(self._root / key):
            return (self._root / key).read_bytes()

    def read_ranges(self, key: str, spans: Sequence[Span]) -> list[np.ndarray]:
        """Views of the mapped file."""
        data = self.map(key)
        return [data[start : start + length] for start, length in spans]

    def map(self, key: str) -> np.ndarray:
        """The file mapped into memory; the mapping lives as long as the array's views."""
        with _reported(self._root / key), (self._root / key).open("rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                return np.empty(0, np.uint8)
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if hasattr(mmap, "MADV_RANDOM"):
            # Read-ahead fetches the neighbours of an utterance, which a shuffled order does
            # not want: without it, cold random reads are several times faster.
            mapped.madvise(mmap.MADV_RANDOM)
        return np.frombuffer(mapped, np.uint8)

    def put(self, key: str, data: bytes) -> None:
        """Write, sync and rename into place."""
        target = self._root / key
        with _reported(target, writing=True), self._temporary(target, data) as temporary:
            temporary.replace(target)
            _sync_directory(target.parent)

    def create_exclusive(self, key: str, data: bytes) -> bool:
        """Write, sync and link into place; False where the name is taken."""
        target = self._root / key
        with _reported(target, writing=True), self._temporary(target, data) as temporary:
            created = _link(temporary, target)
            _sync_directory(target.parent)
        return created

    def entries(self, prefix: str = "") -> list[StoredObject]:
        """Files below ``prefix``; those that vanish meanwhile are left out."""
        with _reported(self._root / prefix):
            found = list(_files(self._root / prefix, f"{prefix}/" if prefix else ""))
        return sorted(found, key=lambda entry: entry.key)

    def delete(self, key: str) -> None:
        """Unlink if it is there."""
        with _reported(self._root / key):
            (self._root / key).unlink(missing_ok=True)

    @contextmanager
    def _temporary(self, target: Path, data: bytes) -> Iterator[Path]:
        for directory in (self._root / TEMPORARY, target.parent):
            if not directory.is_dir():
                directory.mkdir(parents=True, exist_ok=True)
                _sync_directory(directory.parent)
        path = self._root / TEMPORARY / f"{target.name}.{secrets.token_hex(8)}"
        try:
            with path.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield path
        finally:
            path.unlink(missing_ok=True)


def read_ahead(data: np.ndarray) -> None:
    """Let the system fetch what follows: a mapped file is read column by column, in order."""
    mapped = getattr(data.base, "obj", None)  # numpy holds a view of it
    if isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_NORMAL"):
        mapped.madvise(mmap.MADV_NORMAL)


def _files(folder: Path, prefix: str) -> Iterator[StoredObject]:
    """Through scandir: a cache of a million units has a million commits to list."""
    try:
        entries = os.scandir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    with entries:
        for entry in entries:
            try:
                if entry.is_dir(follow_symlinks=False):
                    yield from _files(folder / entry.name, f"{prefix}{entry.name}/")
                elif S_ISREG((status := entry.stat()).st_mode):
                    yield StoredObject(f"{prefix}{entry.name}", status.st_size, status.st_mtime)
            except FileNotFoundError:
                continue


def _link(source: Path, target: Path) -> bool:
    """Hard-link; True if it was this call that made ``target``."""
    try:
        os.link(source, target)
    except FileExistsError:
        # NFS may lose the reply to a link that succeeded and see its own work on retrying.
        return source.samefile(target)
    return True


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _reported(path: Path, *, writing: bool = False) -> Iterator[None]:
    """Turn a failure of the file system into StorageError; a full one into StorageFullError.

    On reading, a missing file stays FileNotFoundError, and what lies below a file is missing.
    """
    try:
        yield
    except OSError as error:
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        if missing and not writing:
            raise FileNotFoundError(error.errno, error.strerror, str(path)) from error
        if error.errno in _FULL:
            raise StorageFullError(f"{path}: {error.strerror or error}; make room") from error
        hint = ""
        if error.errno in (errno.EPERM, errno.ENOTSUP):
            hint = "; commits need a file system with hard links"
        raise StorageError(f"{path}: {error.strerror or error}{hint}") from error
