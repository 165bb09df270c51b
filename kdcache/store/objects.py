"""Storage in an object store: S3, Google Cloud Storage, or the memory of this process.

Through obstore, the Python face of Rust's ``object_store``: one library for all of them, with
ranged reads and with the conditional put (``If-None-Match: *``) that commits rest on. Keys
and endpoints come from the environment variables that each service's own tools read, such as
``AWS_ACCESS_KEY_ID``, ``AWS_REGION`` and ``AWS_ENDPOINT_URL``.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import numpy as np

from kdcache.errors import (
    ConfigError,
    MissingDependencyError,
    StorageError,
    UnfitStorageError,
)
from kdcache.store.retry import Patience, read_patiently
from kdcache.store.storage import FIT, StoredObject

try:
    import obstore
    from obstore.exceptions import AlreadyExistsError, BaseError, GenericError
    from obstore.store import MemoryStore, from_url
except ImportError as error:
    raise MissingDependencyError(
        "a cache in an object store needs the package obstore: pip install 'kdcache[objects]'"
    ) from error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kdcache.errors import KdcacheError
    from kdcache.store.storage import Span

ResultT = TypeVar("ResultT")

_PART_BYTES = 64 * 1024 * 1024
"""A larger object is uploaded in parts: a shard of usual size is one request."""

_NOT_IMPLEMENTED = "501 Not Implemented"
"""How the library tells of a server that does not know the condition."""

_NO_BUCKET = "NoSuchBucket"
"""S3's code of an error for a bucket that is not there."""

_MEMORY: dict[str, MemoryStore] = {}
_MEMORY_LOCK = Lock()


class ObjectStorage:
    """Objects below one prefix.

    Args:
        location: the URL, without a slash at its end.
        store: obstore's store of the bucket.
        patience: how often a read is tried again.
    """

    def __init__(self, location: str, store: Any, patience: Patience | None = None) -> None:
        self._location = location
        self._store = store
        self._patience = patience or Patience()
        self._prefix = urlsplit(location).path.strip("/")

    @property
    def location(self) -> str:
        """The URL."""
        return self._location

    @property
    def place(self) -> str:
        """The URL, and the endpoint where the environment names one."""
        endpoint = _endpoint() if self._location.startswith("s3://") else ""
        return f"{self._location} at {endpoint}" if endpoint else self._location

    @property
    def folder(self) -> None:
        """There is no directory."""
        return

    def exists(self, key: str) -> bool:
        """One HEAD request."""
        try:
            self._patiently(key, lambda: obstore.head(self._store, self._at(key)))
        except FileNotFoundError:
            return False
        return True

    def read(self, key: str) -> bytes:
        """The whole object, in one request."""
        path = self._at(key)
        return self._patiently(key, lambda: bytes(obstore.get(self._store, path).bytes()))

    def read_ranges(self, key: str, spans: Sequence[Span]) -> list[np.ndarray]:
        """Ranged requests, side by side; neighbouring spans share one."""
        wanted = [span for span in spans if span[1]]
        found = self._patiently(key, lambda: self._ranges(self._at(key), wanted))
        parts = iter(found)
        return [_array(next(parts) if length else b"") for _, length in spans]

    def map(self, key: str) -> np.ndarray:
        """The whole object, read into memory."""
        path = self._at(key)
        return self._patiently(key, lambda: _array(obstore.get(self._store, path).bytes()))

    def put(self, key: str, data: bytes) -> None:
        """One PUT, or several parts that appear together."""
        with self._reported(key, writing=True):
            obstore.put(self._store, self._at(key), data, chunk_size=_PART_BYTES)

    def create_exclusive(self, key: str, data: bytes) -> bool:
        """One conditional PUT, never in parts: not every server checks the condition there."""
        try:
            with self._reported(key, writing=True):
                obstore.put(self._store, self._at(key), data, mode="create", use_multipart=False)
        except AlreadyExistsError:
            return self._holds(key, data)
        except StorageError as error:
            if _NOT_IMPLEMENTED in error.message:
                raise UnfitStorageError(
                    f"{self.place}: the server does not know conditional puts, so commits are "
                    f"not safe on it; {FIT}"
                ) from error
            if self._holds(key, data):
                return True
            raise
        return True

    def entries(self, prefix: str = "") -> list[StoredObject]:
        """Listed page by page, and sorted; ConfigError where there is no such bucket."""
        path = self._at(prefix) or None
        try:
            found = self._patiently(prefix, lambda: obstore.list(self._store, path).collect())
        except StorageError as error:
            if _NO_BUCKET in str(error.__cause__):
                raise ConfigError(
                    f"{self.place}: there is no such bucket; make it, or correct the URL"
                ) from error
            raise
        return sorted(map(self._entry, found), key=lambda entry: entry.key)

    def delete(self, key: str) -> None:
        """Remove it; an object that is not there is removed already."""
        try:
            with self._reported(key):
                obstore.delete(self._store, self._at(key))
        except FileNotFoundError:
            return

    def _ranges(self, path: str, spans: Sequence[Span]) -> Sequence[Any]:
        starts, lengths = [start for start, _ in spans], [length for _, length in spans]
        try:
            found: Sequence[Any] = obstore.get_ranges(
                self._store, path, starts=starts, lengths=lengths
            )
        except BaseError:
            # Servers refuse a span that starts behind the end; whoever asked is told by
            # short arrays, as from a file.
            size = obstore.head(self._store, path)["size"]
            if all(start < size for start in starts):
                raise
            return [b""] * len(spans)
        return found

    def _at(self, key: str) -> str:
        return f"{self._prefix}/{key}".strip("/")

    def _entry(self, found: Any) -> StoredObject:
        key = found["path"].removeprefix(self._prefix).lstrip("/")
        return StoredObject(key, found["size"], found["last_modified"].timestamp())

    def _holds(self, key: str, data: bytes) -> bool:
        """Whether a create that was refused, or not answered, was carried out after all.

        The library repeats a request after a server's failure, and then meets its own work.
        """
        try:
            return self.read(key) == data
        except (FileNotFoundError, StorageError):
            return False

    def _patiently(self, key: str, work: Callable[[], ResultT]) -> ResultT:
        """A read, repeated where the service failed.

        The library itself repeats requests that are refused with a failure of the server; not
        those whose answer breaks off.
        """

        def once() -> ResultT:
            with self._reported(key):
                return work()

        return read_patiently(once, key, self._patience, again=_may_pass)

    @contextmanager
    def _reported(self, key: str, *, writing: bool = False) -> Iterator[None]:
        """Turn the library's errors into ours, in one line; a refused create passes.

        Where something is missing on writing, it is not the object.
        """
        try:
            yield
        except FileNotFoundError as error:
            if writing:
                raise StorageError(
                    f"{self._location}/{key}: the bucket is not there, or the upload in parts "
                    "that was begun"
                ) from error
            raise FileNotFoundError(2, "No such object", f"{self._location}/{key}") from None
        except AlreadyExistsError:
            raise
        except BaseError as error:
            first = str(error).strip().partition("\n")[0]
            raise StorageError(f"{self._location}/{key}: {first}") from error


def open_object_storage(url: str) -> ObjectStorage:
    """The storage below ``url``; what the same process keeps in memory, it finds again.

    Raises:
        ConfigError: the service's settings, such as its region, cannot be used.
    """
    parts = urlsplit(url)
    if parts.scheme == "memory":
        with _MEMORY_LOCK:
            whole = _MEMORY.setdefault(parts.netloc, MemoryStore())
        return ObjectStorage(url, whole)
    try:
        bucket = from_url(f"{parts.scheme}://{parts.netloc}", client_options=_client_options())
        return ObjectStorage(url, bucket)
    except (BaseError, ValueError, TypeError) as error:
        first = str(error).strip().partition("\n")[0]
        raise ConfigError(f"cannot use {url!r}: {first}") from error


def _client_options() -> Any:
    """Plain HTTP only where an endpoint of the user's own asks for it."""
    return {"allow_http": True} if _endpoint().startswith("http://") else None


def _endpoint() -> str:
    """Of an S3 service other than Amazon's, if the environment names one."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")


def _may_pass(error: KdcacheError) -> bool:
    """Whether the service failed, rather than refused."""
    return isinstance(error.__cause__, GenericError)


def _array(data: Any) -> np.ndarray:
    array = np.frombuffer(data, np.uint8)
    array.flags.writeable = False
    return array
