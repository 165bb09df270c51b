"""A cache in another layout, in other shards or with other codecs, without its teacher.

Stored arrays are copied byte for byte, so that the content digest stays; only targets that
are given another codec are decoded and packed again. What is done is known from the commits
of the target alone: the same command goes on after anything.
"""

from __future__ import annotations

import uuid
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from kdcache.codec import make_codec
from kdcache.errors import ConfigError, DamagedCacheError, SpecMismatchError
from kdcache.store.cache import Cache
from kdcache.store.checksums import content_hash
from kdcache.store.files import check_file
from kdcache.store.header import Header, load_header
from kdcache.store.layout import make_layout
from kdcache.store.mapping import MappedFiles
from kdcache.store.packed import FailedUtterance, PackedUtterance
from kdcache.store.places import open_storage
from kdcache.store.recode import Recoding
from kdcache.store.writer import create_as
from kdcache.types import AudioRef, Utterance, fingerprint_of

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    from kdcache.store.spec import CacheSpec
    from kdcache.store.storage import Storage
    from kdcache.store.writer import CacheWriter

_OPEN_SHARDS = 2
"""Of the source, while its units are copied one after the other."""

_GOOD = ("id", "text", "speaker", "tokens", "duration", "frames", "checksum", "unit")
_FIDELITY = "fidelity."


@dataclass(frozen=True, slots=True)
class ConvertReport:
    """What a conversion made.

    Attributes:
        source, target: where they are.
        layout: of the target.
        recoded: targets that were packed again, sorted.
        utterances, failed: in the target.
        units: shards of the target, those without a good utterance counted too.
        source_bytes, target_bytes: of all files of either.
        content_digest: of the target; that of the source where nothing was packed again.
    """

    source: str
    target: str
    layout: str
    recoded: tuple[str, ...]
    utterances: int
    failed: int
    units: int
    source_bytes: int
    target_bytes: int
    content_digest: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {**asdict(self), "recoded": list(self.recoded)}


@dataclass(frozen=True, slots=True)
class _UnitPlan:
    """A unit of the target: its name, and rows of the source's catalogue and failures."""

    name: str
    rows: list[int]
    failed: list[int]


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    layout: str | None = None,
    *,
    codecs: Mapping[str, Mapping[str, Any]] | None = None,
    unit_utterances: int | None = None,
    import_codecs: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> ConvertReport:
    """Copy a cache.

    Args:
        source: a cache.
        target: a new place, or what an earlier call with the same arguments left there.
        layout: of the target; the source's if ``None``.
        codecs: settings of new codecs by name of target, such as ``{"lattice": {"name":
            "fp16"}}``.
        unit_utterances: utterances of a shard; ``None`` keeps the shards as they are.
        import_codecs: allow importing the modules of ``module:Class`` codecs.
        progress: called with (utterances done, utterances in all) after each shard.

    Raises:
        InputError: places, layout or codecs that cannot be used; or the target holds
            something else.
        DamagedCacheError: the source is damaged, or the target differs from it at the end.
        StorageError: a storage failed.
    """
    storage = open_storage(source)
    # Whole shards are read once; where shards are cut anew, utterances come from everywhere.
    shards = MappedFiles(storage, _OPEN_SHARDS) if unit_utterances is None else None
    cache = Cache(storage, import_codecs=import_codecs, shards=shards)
    recodings, wanted = _wanted(storage, cache, layout, codecs or {}, import_codecs)
    plans = _plan_units(cache, wanted.spec, unit_utterances)
    writer = _open_target(storage, target, wanted, plans)
    _copy_units(cache, writer, plans, recodings, progress)
    made = Cache(open_storage(target), import_codecs=import_codecs)
    _check_result(cache, made)
    return ConvertReport(
        source=cache.location,
        target=made.location,
        layout=made.layout,
        recoded=tuple(sorted(recoding.name for recoding in recodings)),
        utterances=len(made),
        failed=made.failures.num_rows,
        units=len(made.units),
        source_bytes=cache.nbytes,
        target_bytes=made.nbytes,
        content_digest=made.content_digest(),
    )


def _wanted(
    storage: Storage,
    cache: Cache,
    layout: str | None,
    codecs: Mapping[str, Mapping[str, Any]],
    import_codecs: bool,
) -> tuple[list[Recoding], Header]:
    """Targets that another codec packs, and the header of the target."""
    make_layout(layout or cache.layout)
    recodings = []
    spec = cache.spec
    for name, settings in sorted(codecs.items()):
        new = make_codec(spec.target(name).record, settings, allow_import=import_codecs)
        if new.to_dict() != spec.target(name).codec:
            recodings.append(Recoding(name, cache.codec(name), new))
    packed = {recoding.name: recoding.new.to_dict() for recoding in recodings}
    targets = (replace(t, codec=packed.get(t.name, t.codec)) for t in spec.targets)
    header = load_header(storage)
    if not recodings:
        return [], replace(header, layout=layout or cache.layout)
    spec = replace(spec, targets=tuple(targets)).normalised(allow_import=import_codecs)
    columns = spec.columns(allow_import=import_codecs)
    kept = tuple(choice for choice in header.choices if choice.target not in packed)
    return recodings, Header(layout or cache.layout, spec, columns, (), choices=kept)


def _plan_units(cache: Cache, spec: CacheSpec, size: int | None) -> list[_UnitPlan]:
    """The units of the target; a pure function of what the source holds."""
    good = cache.catalogue.select(["id", "checksum", "unit"]).to_pylist()
    failed = cache.failures.select(["id", "error", "unit"]).to_pylist()
    rows = [(row["id"], row["unit"], True, index) for index, row in enumerate(good)]
    rows += [(row["id"], row["unit"], False, index) for index, row in enumerate(failed)]
    if size is not None:
        rows.sort()
        parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        told = [[_told(good if r[2] else failed, r[3]) for r in part] for part in parts]
        names = [fingerprint_of({"spec": spec.spec_hash, "rows": part}) for part in told]
        return [_unit_plan(*pair) for pair in zip(names, parts, strict=True)]
    groups: dict[str, list[tuple[str, str, bool, int]]] = {}
    for row in rows:
        groups.setdefault(row[1], []).append(row)
    return [_unit_plan(name, groups[name]) for name in sorted(groups)]


def _told(rows: Sequence[Mapping[str, str]], index: int) -> list[str]:
    row = rows[index]
    return [row["id"], row.get("checksum") or row["error"]]


def _unit_plan(name: str, rows: Sequence[tuple[str, str, bool, int]]) -> _UnitPlan:
    good = [index for _, _, is_good, index in rows if is_good]
    return _UnitPlan(name, good, [index for _, _, is_good, index in rows if not is_good])


def _open_target(
    storage: Storage, target: str | os.PathLike[str], wanted: Header, plans: Sequence[_UnitPlan]
) -> CacheWriter:
    place = open_storage(target)
    if _same(storage, place):
        raise ConfigError(f"cannot convert {storage.location} into itself; choose another place")
    files = {
        record.path.partition("/")[2]: check_file(storage, record)
        for record in load_header(storage).tokenizer_files
    }
    writer = create_as(place, replace(wanted, tokenizer_files=()), files)
    foreign = writer.committed_units() - {plan.name for plan in plans}
    if foreign:
        raise SpecMismatchError(
            f"{writer.location} holds {len(foreign)} unit(s) that this conversion does not make, "
            f"such as {min(foreign)}; give the same arguments as before, or another place"
        )
    return writer


def _same(one: Storage, other: Storage) -> bool:
    if one.folder is not None and other.folder is not None:
        return one.folder.resolve() == other.folder.resolve()
    return one.location == other.location


def _copy_units(
    cache: Cache,
    writer: CacheWriter,
    plans: Sequence[_UnitPlan],
    recodings: Sequence[Recoding],
    progress: Callable[[int, int], None] | None,
) -> None:
    finished = writer.committed_units()
    total = sum(len(plan.rows) + len(plan.failed) for plan in plans)
    done = sum(len(plan.rows) + len(plan.failed) for plan in plans if plan.name in finished)
    if progress is not None:
        progress(done, total)
    for plan in plans:
        if plan.name in finished:
            continue
        writer.commit(plan.name, *_unit(cache, plan, recodings), uuid.uuid4().hex)
        done += len(plan.rows) + len(plan.failed)
        if progress is not None:
            progress(done, total)


def _unit(
    cache: Cache, plan: _UnitPlan, recodings: Sequence[Recoding]
) -> tuple[list[PackedUtterance], list[FailedUtterance]]:
    names = [*_GOOD, *(n for n in cache.catalogue.column_names if n.startswith(_FIDELITY))]
    rows = cache.catalogue.select(names).take(_indexes(plan.rows)).to_pylist()
    failed = cache.failures.take(_indexes(plan.failed)).to_pylist()
    packed = [_good(cache, *pair, recodings) for pair in zip(plan.rows, rows, strict=True)]
    return packed, [_failed(row) for row in failed]


def _indexes(rows: Sequence[int]) -> pa.Array:
    return pa.array(rows, pa.int64())


def _good(
    cache: Cache, index: int, row: Mapping[str, Any], recodings: Sequence[Recoding]
) -> PackedUtterance:
    columns = cache.read_columns(index)
    if content_hash(columns) != row["checksum"]:
        raise DamagedCacheError(
            f"utterance {row['id']!r} of {cache.location} is not what its catalogue says; "
            "`kdcache verify` lists all damage, `kdcache repair` takes it out"
        )
    fidelity = {
        name.removeprefix(_FIDELITY): value
        for name, value in row.items()
        if name.startswith(_FIDELITY) and value is not None
    }
    for recoding in recodings:
        columns, fidelity = recoding.apply(columns, fidelity)
    return PackedUtterance(
        utterance=_utterance(row),
        duration=row["duration"],
        tokens=row["tokens"],
        frames=row["frames"],
        columns=columns,
        fidelity=fidelity,
    )


def _failed(row: Mapping[str, Any]) -> FailedUtterance:
    return FailedUtterance(_utterance(row), row["error"], row["message"])


def _utterance(row: Mapping[str, Any]) -> Utterance:
    """What a catalogue knows of an utterance; where its audio was, it does not."""
    audio = AudioRef("", duration=row["duration"])
    return Utterance(row["id"], audio, row["text"] or "", row["speaker"])


def _check_result(cache: Cache, made: Cache) -> None:
    """The target must hold what the source held when it was opened."""
    failed, there = (c.failures["id"].to_pylist() for c in (cache, made))
    same = cache.ids == made.ids and failed == there
    if same and cache.spec.spec_hash == made.spec.spec_hash:
        same = cache.content_digest() == made.content_digest()
    if not same:
        raise DamagedCacheError(
            f"{made.location} does not hold the same as {cache.location} after the conversion; "
            "it held something else before: convert into another place"
        )
