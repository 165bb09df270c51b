"""Commits that repair took out of sight: ``quarantine/<unit>-<hash>.json``, a file each.

Such a file says what was found and holds the commit record itself, so that nothing is lost
that anybody knew. Readers never look at it.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kdcache.errors import DamagedCacheError
from kdcache.store.commits import CommitRecord, commit_key
from kdcache.store.files import FileRecord
from kdcache.store.seal import seal, unseal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kdcache.store.storage import Storage, StoredObject
    from kdcache.store.verify import Damage

QUARANTINE = "quarantine"


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A commit in quarantine.

    Attributes:
        unit: its name.
        utterances: what it made visible; ``None`` where that could not be read.
        commit: the file that its commit record was.
    """

    unit: str
    utterances: tuple[str, ...] | None
    commit: bytes


def load_quarantined(storage: Storage, key: str) -> Quarantined:
    """One file of the quarantine; DamagedCacheError where it is not what was written."""
    content: dict[str, Any] = unseal(storage.read(key), key)
    ids = content["utterances"]
    return Quarantined(
        unit=content["unit"],
        utterances=None if ids is None else tuple(ids),
        commit=base64.b64decode(content["commit"]),
    )


def set_commit_aside(
    storage: Storage, unit: str, damage: Iterable[Damage], ids: Sequence[str] | None
) -> str:
    """Move the commit record of ``unit`` to quarantine; the key of the file there.

    The file is durable before the record goes. Killed in between, the unit is still visible
    and its damage is found again; the same file is then written again.

    Args:
        storage: of the cache; nothing may write to it meanwhile.
        unit: a visible unit.
        damage: what was found.
        ids: its utterances, as far as its catalogue part can be read.
    """
    raw = storage.read(commit_key(unit))
    key = f"{QUARANTINE}/{unit}-{FileRecord.of('', raw).xxh3[:16]}.json"
    found = [{"file": d.file, "utterance": d.utterance, "what": d.what} for d in damage]
    content = {
        "unit": unit,
        "damage": found,
        "utterances": None if ids is None else sorted(ids),
        # Base64, because a damaged record may be any bytes.
        "commit": base64.b64encode(raw).decode(),
    }
    storage.put(key, seal(content))
    storage.delete(commit_key(unit))
    return key


def quarantined(storage: Storage) -> list[StoredObject]:
    """The files in quarantine."""
    return storage.entries(QUARANTINE)


def quarantined_paths(storage: Storage) -> set[str]:
    """Shards and catalogue parts that quarantined commits name, as far as these can be read."""
    paths: set[str] = set()
    for entry in quarantined(storage):
        item = load_quarantined(storage, entry.key)
        try:
            paths |= {file.path for file in CommitRecord.from_bytes(item.commit, item.unit).files}
        except DamagedCacheError:
            continue
    return paths
