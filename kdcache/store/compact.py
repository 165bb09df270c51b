"""Compaction: the catalogue's parts gathered into an index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdcache.store.header import load_header
from kdcache.store.index import save_index
from kdcache.store.places import open_storage
from kdcache.store.snapshot import load_snapshot

if TYPE_CHECKING:
    import os
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class CompactReport:
    """What an index stands for.

    Attributes:
        units: parts that were gathered.
        utterances, failed: rows.
        files: of the index, with its head.
        bytes: of its tables.
    """

    units: int
    utterances: int
    failed: int
    files: int
    bytes: int


def compact(
    path: str | os.PathLike[str], progress: Callable[[int, int], None] = lambda done, total: None
) -> CompactReport:
    """Gather all parts of the catalogue into an index, which every later opening uses.

    The parts are read from their commits, never from an older index, and stay as they are.
    Extractions may commit meanwhile: a unit that the index does not name is read from its
    part. The catalogue must fit into memory here, which it need not when it is opened.

    Args:
        path: the cache.
        progress: called with (parts read, parts to read).

    Raises:
        NotACacheError: no cache. DamagedCacheError: a part that is not what was written.
        StorageError: the storage failed; an older index still counts.
    """
    storage = open_storage(path)
    header = load_header(storage)
    spec_hash = header.spec.spec_hash
    snapshot = load_snapshot(storage, header.columns, spec_hash, use_index=False, progress=progress)
    commits = {name: unit.commit for name, unit in snapshot.units.items()}
    files = save_index(storage, spec_hash, snapshot.catalogue, snapshot.failures, commits)
    return CompactReport(
        units=len(commits),
        utterances=len(snapshot.ids),
        failed=snapshot.failures.num_rows,
        files=len(files) + 1,
        bytes=sum(file.size for file in files),
    )
