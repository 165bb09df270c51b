"""What a cache is, in a few figures taken from its header and catalogue alone."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from kdcache.inspect.totals import add_up, column_bytes
from kdcache.store import awaited_units

if TYPE_CHECKING:
    from kdcache.inspect.totals import Spread
    from kdcache.store import Cache, Choice
    from kdcache.types import TargetSpec

_LONGEST = 256
"""Characters of a setting that people may want to read."""


@dataclass(frozen=True, slots=True)
class WorstUtterances:
    """How one measure of a target differs between utterances.

    Attributes:
        measure: its name, of those in ``fidelity``.
        p99: its 99th percentile, no less than it is and at most 1 % more.
        ids, values: of the utterances that have most of it, the worst first.
    """

    measure: str
    p99: float
    ids: tuple[str, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class TargetSummary:
    """One target of a cache.

    Attributes:
        name, kind, record, settings, codec: as in its ``TargetSpec``; of a table that is part
            of the codec's settings its digest.
        bytes: of its columns' contents, containers left out.
        fidelity: by measure. Those named ``…_max`` are the largest of all utterances; the
            others are means over all nodes, frames or tokens of the cache, that is, over
            utterances weighted by how many of these each has. What is said of an utterance as a
            whole (scores, hypotheses) is one value of each.
        choice: how settings and codec came about, where they were chosen for a goal.
        worst: of the measure that tells most; ``None`` where nothing was measured.
    """

    name: str
    kind: str
    record: str
    settings: dict[str, Any]
    codec: dict[str, Any]
    bytes: int
    fidelity: dict[str, float]
    choice: Choice | None = None
    worst: WorstUtterances | None = None

    @property
    def band_covers(self) -> float | None:
        """Share of the teacher's occupancy that a band holds; ``None`` of what is no band."""
        outside = self.fidelity.get("band_outside")
        return None if outside is None else 1.0 - outside


@dataclass(frozen=True, slots=True)
class Identity:
    """What a cache is, known from its header alone; see :class:`CacheSummary`."""

    path: str
    layout: str
    format_version: int
    teacher: str
    teacher_kind: str
    teacher_fingerprint: str
    tokenizer: str


@dataclass(frozen=True, slots=True)
class CacheSummary:
    """A cache in figures.

    Attributes:
        path: where it is.
        layout, format_version: how it is written.
        teacher: name of the teacher; ``teacher_kind``, ``teacher_fingerprint``: which it is.
        tokenizer: fingerprint of the tokenizer.
        targets: what is kept.
        audio: ``none`` or ``flac``; ``audio_bytes`` of it.
        units: committed units of work; ``units_incomplete`` of them have failed utterances, and
            ``units_set_aside`` were damaged, taken out and not yet put back.
        utterances: good ones.
        failed: how many could not be used, by error code.
        hours: of audio of the good ones.
        bytes: of all files that belong to the cache.
        bytes_per_hour: ``None`` where there is no audio.
        content_digest: ``None`` where it was not asked for.
    """

    path: str
    layout: str
    format_version: int
    teacher: str
    teacher_kind: str
    teacher_fingerprint: str
    tokenizer: str
    targets: tuple[TargetSummary, ...]
    audio: str
    audio_bytes: int
    units: int
    utterances: int
    failed: dict[str, int]
    hours: float
    bytes: int
    bytes_per_hour: float | None
    content_digest: str | None = None
    units_incomplete: int = 0
    units_set_aside: int = 0

    @property
    def identity(self) -> Identity:
        """What it is, without how much is in it."""
        return Identity(*(getattr(self, field.name) for field in fields(Identity)))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {**asdict(self), "targets": [asdict(target) for target in self.targets]}


def summarise(cache: Cache, *, digest: bool = False) -> CacheSummary:
    """Summarise what is committed; no shard is read.

    Args:
        cache: an open cache.
        digest: compute the content digest as well.
    """
    targets = tuple(summarise_target(cache, target) for target in cache.spec.targets)
    return replace(outline(cache, digest=digest), targets=targets)


def identify(cache: Cache) -> Identity:
    """What a cache says of itself; its catalogue is not looked at."""
    teacher = cache.spec.teacher
    return Identity(
        path=cache.location,
        layout=cache.layout,
        format_version=cache.spec.format_version,
        teacher=teacher.name,
        teacher_kind=str(teacher.kind),
        teacher_fingerprint=teacher.fingerprint,
        tokenizer=cache.spec.tokenizer,
    )


def outline(cache: Cache, *, digest: bool = False) -> CacheSummary:
    """:func:`summarise` without its targets: what is known at once of a cache of any size."""
    failures = cache.failures
    hours = float(pc.sum(cache.catalogue_columns(["duration"])["duration"]).as_py() or 0) / 3600
    return CacheSummary(
        **asdict(identify(cache)),
        targets=(),
        audio=cache.spec.audio,
        audio_bytes=column_bytes(cache, "audio") if "audio" in cache.columns else 0,
        units=len(cache.units),
        utterances=len(cache),
        failed=dict(sorted(Counter(failures["error"].to_pylist()).items())),
        hours=hours,
        bytes=cache.nbytes,
        bytes_per_hour=cache.nbytes / hours if hours else None,
        content_digest=cache.content_digest() if digest else None,
        units_incomplete=len(failures["unit"].unique()),
        units_set_aside=len(awaited_units(cache.location)),
    )


def summarise_target(cache: Cache, target: TargetSpec) -> TargetSummary:
    """One target in figures; no shard is read."""
    totals = add_up(cache, target)
    return TargetSummary(
        name=target.name,
        kind=target.kind,
        record=target.record,
        settings=target.settings,
        codec={name: without_tables(value) for name, value in target.codec.items()},
        bytes=totals.bytes,
        fidelity=totals.fidelity,
        choice=cache.choices.get(target.name),
        worst=None if totals.spread is None else _named(cache, totals.spread),
    )


def _named(cache: Cache, spread: Spread) -> WorstUtterances:
    ids = cache.catalogue_columns(["id"])["id"]
    return WorstUtterances(
        spread.measure,
        spread.p99,
        tuple(ids[row].as_py() for row, _ in spread.worst),
        tuple(value for _, value in spread.worst),
    )


def without_tables(setting: Any) -> Any:
    """A codec's setting, with a digest in the place of arrays that were written as text."""
    if isinstance(setting, dict):
        return {name: without_tables(value) for name, value in setting.items()}
    if isinstance(setting, str) and len(setting) > _LONGEST:
        return f"sha256:{hashlib.sha256(setting.encode()).hexdigest()}"
    return setting
