"""Where a cache can lie: a directory, or a URL of a storage service.

runs/cache, file:///srv/cache     a directory
s3://bucket/prefix                S3 and what speaks its protocol
gs://bucket/prefix                Google Cloud Storage
memory://name/prefix              this process, for tests and trials
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from kdcache.errors import ConfigError, did_you_mean
from kdcache.store.local import LocalStorage

if TYPE_CHECKING:
    from kdcache.store.storage import Storage

OBJECT_SCHEMES = ("gs", "memory", "s3")


def open_storage(place: str | os.PathLike[str]) -> Storage:
    """The storage that ``place`` names; nothing is looked up yet.

    Raises:
        ConfigError: a URL of no known kind, or without a bucket.
        MissingDependencyError: a URL of an object store, and obstore is not installed.
    """
    text = os.fspath(place)
    if "://" not in text:
        return LocalStorage(text)
    parts = urlsplit(text)
    if parts.scheme == "file":
        return LocalStorage(_local_path(text, parts.netloc, parts.path))
    if parts.scheme not in OBJECT_SCHEMES:
        known = ("file", *OBJECT_SCHEMES)
        hint = did_you_mean(parts.scheme, known)
        raise ConfigError(
            f"cannot use {text!r}: expected a directory or a URL that starts with "
            f"{', '.join(f'{scheme}://' for scheme in known)}.{hint}"
        )
    if not parts.netloc or parts.query or parts.fragment:
        raise ConfigError(
            f"cannot use {text!r}: expected {parts.scheme}://bucket/prefix and nothing after it"
        )
    # Imported here: an optional package, which no local cache needs.
    from kdcache.store.objects import open_object_storage

    return open_object_storage(text.rstrip("/"))


def local_folder(storage: Storage) -> Path:
    """The directory of a cache, for those who open its files themselves.

    Raises:
        ConfigError: it lies in an object store.
    """
    if storage.folder is None:
        raise ConfigError(f"{storage.location} is no directory, so its files have no path")
    return storage.folder


def _local_path(text: str, host: str, path: str) -> Path:
    if host not in ("", "localhost") or not path:
        raise ConfigError(f"cannot use {text!r}: expected file:///path/to/a/directory")
    return Path(unquote(path))
