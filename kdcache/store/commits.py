"""Commit records: a unit of work is visible if and only if ``commits/<unit>.json`` is there.

The record is created exclusively after its files are durable, so the first of several
writers of one unit wins and nothing that a reader sees ever changes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdcache.errors import ConfigError, DamagedCacheError
from kdcache.store.files import FileRecord
from kdcache.store.seal import seal, unseal

if TYPE_CHECKING:
    from kdcache.store.storage import Storage

COMMITS = "commits"

_UNIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class CommitRecord:
    """What one commit made visible.

    Attributes:
        unit: name of the unit of work.
        attempt: id of the attempt that won.
        spec_hash: of the cache's spec.
        shard: the payload; ``None`` where every utterance failed.
        catalogue: the catalogue part.
        utterances, failed: rows of either sort in the catalogue part.
    """

    unit: str
    attempt: str
    spec_hash: str
    shard: FileRecord | None
    catalogue: FileRecord
    utterances: int
    failed: int

    @property
    def files(self) -> list[FileRecord]:
        """The files that it made visible."""
        return [self.catalogue] if self.shard is None else [self.catalogue, self.shard]

    def to_bytes(self) -> bytes:
        """The file."""
        return seal(
            {
                "unit": self.unit,
                "attempt": self.attempt,
                "spec_hash": self.spec_hash,
                "shard": None if self.shard is None else self.shard.to_dict(),
                "catalogue": self.catalogue.to_dict(),
                "utterances": self.utterances,
                "failed": self.failed,
            }
        )

    @classmethod
    def from_bytes(cls, raw: bytes, unit: str) -> CommitRecord:
        """Read the file of ``unit``; DamagedCacheError where it is not that."""
        name = commit_key(unit)
        value = unseal(raw, name)
        try:
            shard = value["shard"]
            record = cls(
                unit=value["unit"],
                attempt=value["attempt"],
                spec_hash=value["spec_hash"],
                shard=None if shard is None else FileRecord.from_dict(shard),
                catalogue=FileRecord.from_dict(value["catalogue"]),
                utterances=int(value["utterances"]),
                failed=int(value["failed"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedCacheError(f"{name}: {error!r} while reading it") from error
        if record.unit != unit:
            raise DamagedCacheError(f"{name}: it is the record of unit {record.unit!r}")
        return record


def parse_unit_name(unit: str) -> str:
    """``unit`` if it can be a file's name."""
    if not _UNIT.fullmatch(unit):
        raise ConfigError(
            f"expected a unit's name of up to 128 letters, digits, '.', '_' and '-', got {unit!r}"
        )
    return unit


def commit_key(unit: str) -> str:
    """Where the record of ``unit`` lies."""
    return f"{COMMITS}/{unit}.json"


def committed_units(storage: Storage) -> set[str]:
    """Units that are visible now."""
    keys = (entry.key for entry in storage.entries(COMMITS))
    return {
        key.removeprefix(f"{COMMITS}/").removesuffix(".json")
        for key in keys
        if key.endswith(".json")
    }


def load_commit(storage: Storage, unit: str) -> CommitRecord:
    """The record of a visible unit; DamagedCacheError where it cannot be read."""
    return CommitRecord.from_bytes(storage.read(commit_key(unit)), unit)
