"""Files that no commit refers to: what killed and beaten attempts leave behind.

What repair has set aside is not among them until somebody asks for it: it may be all that is
left of an utterance.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from kdcache.store.catalogue import CATALOGUE
from kdcache.store.commits import committed_units, load_commit
from kdcache.store.header import load_header
from kdcache.store.index import INDEX, INDEX_KEY, index_files
from kdcache.store.local import TEMPORARY
from kdcache.store.places import open_storage
from kdcache.store.quarantine import quarantined, quarantined_paths
from kdcache.store.writer import DATA

if TYPE_CHECKING:
    import os

    from kdcache.store.storage import Storage, StoredObject

DEFAULT_GRACE_SECONDS = 86_400.0


def find_garbage(
    path: str | os.PathLike[str], grace_seconds: float = 0.0, *, quarantine: bool = False
) -> list[StoredObject]:
    """Temporary and unreferenced files of the cache; a running writer's are among them.

    Args:
        path: the cache.
        grace_seconds: leave out what was written within that time.
        quarantine: count what repair has set aside as garbage too.

    Raises:
        NotACacheError: no cache. DamagedCacheError: a commit record that cannot be read, so
            that nobody knows what it refers to.
    """
    storage = open_storage(path)
    load_header(storage)
    # Without a grace the clocks of this machine and of the storage need not agree.
    newest = time.time() - grace_seconds if grace_seconds else math.inf
    return [e for e in _unreferenced(storage, quarantine) if e.modified <= newest]


def collect_garbage(
    path: str | os.PathLike[str],
    grace_seconds: float = DEFAULT_GRACE_SECONDS,
    *,
    quarantine: bool = False,
) -> list[StoredObject]:
    """Delete garbage that was last written over ``grace_seconds`` ago; what was deleted.

    The grace must exceed the time that a writer takes from a shard to its commit record.

    Raises:
        NotACacheError, DamagedCacheError: see :func:`find_garbage`; nothing is deleted.
    """
    found = find_garbage(path, grace_seconds, quarantine=quarantine)
    storage = open_storage(path)
    for entry in found:
        storage.delete(entry.key)
    return found


def _unreferenced(storage: Storage, quarantine: bool) -> list[StoredObject]:
    # Files are listed before commits: one that is committed in between is referenced.
    folders = (TEMPORARY, DATA, CATALOGUE, INDEX)
    found = [entry for folder in folders for entry in storage.entries(folder)]
    commits = [load_commit(storage, unit) for unit in sorted(committed_units(storage))]
    kept = {file.path for commit in commits for file in commit.files}
    kept |= {INDEX_KEY, *(file.path for file in index_files(storage))}
    if quarantine:
        found += quarantined(storage)
    else:
        kept |= quarantined_paths(storage)
    return [entry for entry in found if entry.key not in kept]
