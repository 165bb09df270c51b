"""A file as a cache's records describe it, and the check that it is still that file."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from kdcache.errors import DamagedCacheError
from kdcache.store.checksums import file_hash, read_file_hash

if TYPE_CHECKING:
    import numpy as np

    from kdcache.store.storage import Storage


@dataclass(frozen=True, slots=True)
class FileRecord:
    """Path within the cache, size in bytes, and hex xxh3-128 of a file."""

    path: str
    size: int
    xxh3: str

    @classmethod
    def of(cls, path: str, data: bytes) -> FileRecord:
        """Describe ``data`` as the file ``path``."""
        return cls(path, len(data), file_hash(data))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> FileRecord:
        """Inverse of :meth:`to_dict`; ValueError for a path that leaves the cache."""
        parts = PurePosixPath(data["path"]).parts
        if len(parts) < 2 or ".." in parts or parts[0] == "/":
            raise ValueError(f"{data['path']!r} is no file of a cache")
        return cls(str(data["path"]), int(data["size"]), str(data["xxh3"]))


def map_file(storage: Storage, record: FileRecord) -> np.ndarray:
    """The file's bytes, mapped, if it is there in full.

    Raises:
        DamagedCacheError: it is missing or has another size. A shorter file must never be
            mapped: reading beyond its end kills the process.
    """
    try:
        data = storage.map(record.path)
    except FileNotFoundError:
        raise DamagedCacheError(f"{record.path}: the file is missing") from None
    if data.size != record.size:
        raise DamagedCacheError(f"{record.path}: {data.size} bytes, expected {record.size}")
    return data


def check_mapped(storage: Storage, record: FileRecord, data: np.ndarray) -> None:
    """Compare a mapped file's bytes with its hash.

    A local file is read beside its mapping: pages of a mapping that were touched count as memory
    of this process, and of a large file hardly any are needed.

    Raises:
        DamagedCacheError: they are not what was written.
    """
    if storage.folder is None:
        found = file_hash(data.data)
    else:
        with (storage.folder / record.path).open("rb") as file:
            found = read_file_hash(file)
    if found != record.xxh3:
        raise DamagedCacheError(f"{record.path}: its bytes are not what was written")


def read_file(storage: Storage, record: FileRecord) -> bytes:
    """The file, read into memory; DamagedCacheError where it is missing."""
    try:
        return storage.read(record.path)
    except FileNotFoundError:
        raise DamagedCacheError(f"{record.path}: the file is missing") from None


def check_file(storage: Storage, record: FileRecord) -> bytes:
    """The file, if every byte is what was written; DamagedCacheError where it is not."""
    data = read_file(storage, record)
    if file_hash(data) != record.xxh3:
        raise DamagedCacheError(f"{record.path}: its bytes are not what was written")
    return data
