"""Files that no commit refers to: what killed and beaten attempts leave behind."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from kdcache.store.catalogue import CATALOGUE
from kdcache.store.commits import committed_units, load_commit
from kdcache.store.header import load_header
from kdcache.store.local import TEMPORARY
from kdcache.store.places import open_storage
from kdcache.store.writer import DATA

if TYPE_CHECKING:
    import os

    from kdcache.store.storage import Storage, StoredObject

DEFAULT_GRACE_SECONDS = 86_400.0


def find_garbage(path: str | os.PathLike[str]) -> list[StoredObject]:
    """Temporary and unreferenced files of the cache; a running writer's are among them.

    Raises:
        NotACacheError: no cache. DamagedCacheError: a commit record that cannot be read, so
            that nobody knows what it refers to.
    """
    storage = open_storage(path)
    load_header(storage)
    return _unreferenced(storage)


def collect_garbage(
    path: str | os.PathLike[str], grace_seconds: float = DEFAULT_GRACE_SECONDS
) -> list[StoredObject]:
    """Delete garbage that was last written over ``grace_seconds`` ago; what was deleted.

    The grace must exceed the time that a writer takes from a shard to its commit record.

    Raises:
        NotACacheError, DamagedCacheError: see :func:`find_garbage`; nothing is deleted.
    """
    storage = open_storage(path)
    load_header(storage)
    newest = time.time() - grace_seconds
    old = [entry for entry in _unreferenced(storage) if entry.modified <= newest]
    for entry in old:
        storage.delete(entry.key)
    return old


def _unreferenced(storage: Storage) -> list[StoredObject]:
    # Files are listed before commits: one that is committed in between is referenced.
    found = [entry for folder in (TEMPORARY, DATA, CATALOGUE) for entry in storage.entries(folder)]
    commits = [load_commit(storage, unit) for unit in sorted(committed_units(storage))]
    referenced = {file.path for commit in commits for file in commit.files}
    return [entry for entry in found if entry.key not in referenced]
