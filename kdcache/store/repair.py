"""Repair: what is damaged is taken out of sight, so that extraction finds it missing.

A commit is never changed. The record of a damaged unit is moved to quarantine, with what was
found; after that the catalogue lacks the unit's utterances, and an extraction with the
settings of the cache does exactly these again, in the batches that they had. Whole units,
not single utterances, because the last digits of a posterior may depend on the batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdcache.errors import DamagedCacheError, NotACacheError, SpecMismatchError, StorageError
from kdcache.store.catalogue import CATALOGUE
from kdcache.store.commits import COMMITS, commit_key, committed_units, load_commit
from kdcache.store.files import FileRecord, check_file
from kdcache.store.header import HEADER, TOKENIZER, Header, load_header
from kdcache.store.index import INDEX, drop_index
from kdcache.store.layout import make_layout
from kdcache.store.places import open_storage
from kdcache.store.quarantine import load_quarantined, quarantined, set_commit_aside
from kdcache.store.snapshot import load_part, load_snapshot
from kdcache.store.verify import Damage, check_unit, verify
from kdcache.store.writer import DATA

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence

    from kdcache.store.choice import Choice
    from kdcache.store.spec import CacheSpec
    from kdcache.store.storage import Storage
    from kdcache.store.verify import Progress


@dataclass(frozen=True, slots=True)
class DamagedUnit:
    """A unit that is not as it was written.

    Attributes:
        unit: its name.
        damage: what was found in its files.
        utterances: ids of its good and failed utterances, sorted; ``None`` where its
            catalogue part cannot be read.
    """

    unit: str
    damage: tuple[Damage, ...]
    utterances: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Findings:
    """All damage of a cache, by what repairs it.

    Attributes:
        common: damage to ``kdcache.json`` and the tokenizer, which belong to no unit.
        units: damaged units, sorted by name.
    """

    common: tuple[Damage, ...]
    units: tuple[DamagedUnit, ...]

    @property
    def damage(self) -> list[Damage]:
        """All of it."""
        return [*self.common, *(damage for unit in self.units for damage in unit.damage)]


def find_damage(path: str | os.PathLike[str], progress: Progress | None = None) -> Findings:
    """Verify a cache and sort what is found; nothing is changed.

    A damaged unit is read a second time, so that a storage that failed for a moment does not
    cost sound shards.

    Args:
        path: the cache.
        progress: see :func:`~kdcache.store.verify`.

    Raises:
        NotACacheError, NewerFormatError: see :func:`~kdcache.store.verify`.
    """
    storage = open_storage(path)
    damage = verify(path, progress)
    suspects = {_unit_of(item.file) for item in damage} - {None}
    header = _readable_header(storage)
    units = [_examine(storage, header, unit) for unit in sorted(map(str, suspects))]
    common = tuple(item for item in damage if _unit_of(item.file) is None)
    return Findings(common, tuple(unit for unit in units if unit.damage))


def set_aside(path: str | os.PathLike[str], units: Iterable[DamagedUnit]) -> list[str]:
    """Take units out of sight; the keys of the files that now hold their commits.

    Raises:
        StorageError: the storage failed; the units before it are set aside.
    """
    storage = open_storage(path)
    units = list(units)
    if units:
        # An index that names a unit which is away and later comes back changed would lie.
        drop_index(storage)
    return [
        set_commit_aside(storage, unit.unit, unit.damage, unit.utterances)
        for unit in units
        if storage.exists(commit_key(unit.unit))
    ]


def drop_damaged_index(path: str | os.PathLike[str], findings: Findings) -> list[str]:
    """Do without a damaged index, which is derived; its damaged files."""
    files = sorted({d.file for d in findings.common if d.file.startswith(f"{INDEX}/")})
    if files:
        drop_index(open_storage(path))
    return files


def awaited_units(path: str | os.PathLike[str]) -> list[str]:
    """Units that were set aside at any time and whose utterances are not all back.

    Of a unit whose catalogue part could not be read, only its own return counts.

    Raises:
        NotACacheError, DamagedCacheError: the cache cannot be opened.
    """
    storage = open_storage(path)
    aside = [load_quarantined(storage, entry.key) for entry in quarantined(storage)]
    if not aside:
        return []
    header = load_header(storage)
    snapshot = load_snapshot(storage, header.columns, header.spec.spec_hash)
    present = {*snapshot.ids, *snapshot.failures["id"].to_pylist()}
    return sorted(
        {
            item.unit
            for item in aside
            if item.unit not in snapshot.units
            and not (item.utterances is not None and present.issuperset(item.utterances))
        }
    )


def restore_header(
    path: str | os.PathLike[str],
    spec: CacheSpec,
    layout: str,
    tokenizer_files: Mapping[str, bytes],
    choices: Sequence[Choice] = (),
) -> list[str]:
    """Write ``kdcache.json`` and files of the tokenizer again where they are damaged.

    Args:
        path: the cache.
        spec, layout, tokenizer_files, choices: what it was made with, as for
            ``create_or_open``.

    Returns:
        The files that were written.

    Raises:
        SpecMismatchError: the cache's commits were made with something else.
    """
    storage = open_storage(path)
    spec = spec.normalised()
    records = {
        name: FileRecord.of(f"{TOKENIZER}/{name}", data)
        for name, data in sorted(tokenizer_files.items())
    }
    header = _readable_header(storage)
    written = []
    if header is None:
        _check_commits(storage, spec, layout)
        files = tuple(records.values())
        made = Header(layout, spec, spec.columns(), files, choices=tuple(choices))
        storage.put(HEADER, made.to_bytes())
        header, written = made, [HEADER]
    for name, record in records.items():
        if record in header.tokenizer_files and not _intact(storage, record):
            storage.put(record.path, tokenizer_files[name])
            written.append(record.path)
    return written


def _unit_of(file: str) -> str | None:
    """The unit that a file belongs to by its name; ``None`` for what all units share."""
    folder, _, name = file.partition("/")
    if folder == COMMITS:
        return name.removesuffix(".json")
    return name.rpartition("-")[0] if folder in (CATALOGUE, DATA) else None


def _examine(storage: Storage, header: Header | None, unit: str) -> DamagedUnit:
    damage = tuple(check_unit(storage, header, unit))
    return DamagedUnit(unit, damage, _ids(storage, unit) if damage else None)


def _ids(storage: Storage, unit: str) -> tuple[str, ...] | None:
    try:
        part = load_part(storage, load_commit(storage, unit))
    except (DamagedCacheError, StorageError, FileNotFoundError):
        return None
    return tuple(sorted(part["id"].to_pylist()))


def _readable_header(storage: Storage) -> Header | None:
    try:
        return load_header(storage)
    except (DamagedCacheError, NotACacheError):
        return None


def _check_commits(storage: Storage, spec: CacheSpec, layout: str) -> None:
    """Commits remember the hash of the spec and the suffix of the layout."""
    suffix = make_layout(layout).suffix
    for unit in sorted(committed_units(storage)):
        try:
            commit = load_commit(storage, unit)
        except DamagedCacheError:
            continue
        if commit.spec_hash != spec.spec_hash:
            raise SpecMismatchError(
                f"{storage.location}: its commits were made with other settings, so {HEADER} "
                "cannot be written from these; use the settings that it was made with"
            )
        if commit.shard is not None and not commit.shard.path.endswith(suffix):
            raise SpecMismatchError(
                f"{storage.location}: {commit.shard.path} is no shard of the layout {layout!r}; "
                "use the layout that it was made with"
            )


def _intact(storage: Storage, record: FileRecord) -> bool:
    try:
        check_file(storage, record)
    except DamagedCacheError:
        return False
    return True
