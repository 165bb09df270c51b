"""What is to be done: a corpus cut into work units, and units into batches.

Everything here is a pure function of the corpus, the cache's spec and what the cache holds
already; nothing depends on how many actors there are, which of them takes a unit, or how
often the run was interrupted. So the same corpus always gives the same units, the same
padded batches and, on a device with reproducible arithmetic, the same bytes.

A unit is named by a digest of what it computes. A unit of which a part is already in the
cache keeps the batches that it has in the whole corpus, less what is present, and gets a
name of its own from what remains.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdcache.types import Utterance, fingerprint_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Batch = tuple[Utterance, ...]
"""Utterances that go through the teacher together."""

_SHOWN = 3
"""Ids that a message names before it says "and N more"."""


@dataclass(frozen=True, slots=True)
class Unit:
    """What one actor computes and commits at once: a shard.

    Attributes:
        spec: fingerprint of the cache's spec.
        batches: its utterances as the teacher gets them, longest first.
        retry: empty, or a digest of what was committed when utterances that had failed were
            planned again: part of the key, so that a retry never meets the failure's name.
        key: hex digest of the three; the name of the shard.
    """

    spec: str
    batches: tuple[Batch, ...]
    retry: str
    key: str

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of its utterances, in the order of the batches."""
        return tuple(utterance.id for batch in self.batches for utterance in batch)

    def __len__(self) -> int:
        return sum(len(batch) for batch in self.batches)


@dataclass(frozen=True, slots=True)
class Holdings:
    """What a cache holds.

    Attributes:
        present: ids of its utterances.
        failed: ids that were recorded as failed.
        units: names of its commits.
    """

    present: frozenset[str] = frozenset()
    failed: frozenset[str] = frozenset()
    units: frozenset[str] = frozenset()


NOTHING = Holdings()


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will do.

    Attributes:
        units: the work, in corpus order.
        present: utterances of the corpus that the cache holds already.
        failed: utterances that failed before and are left alone.
    """

    units: tuple[Unit, ...]
    present: int
    failed: int

    @property
    def missing(self) -> int:
        """Utterances to be computed."""
        return sum(len(unit) for unit in self.units)


def make_unit(spec: str, batches: Iterable[Batch], retry: str = "") -> Unit:
    """A unit of ``batches``, named by what it computes."""
    kept = tuple(batches)
    rows = [[_row(utterance) for utterance in batch] for batch in kept]
    key = fingerprint_of({"spec": spec, "batches": rows, "retry": retry})
    return Unit(spec=spec, batches=kept, retry=retry, key=key)


def split_unit(unit: Unit) -> tuple[Unit, ...]:
    """Two halves of ``unit``, cut between batches while there are several.

    A unit of one utterance is returned as it is: there is nothing left to isolate.
    """
    if len(unit) == 1:
        return (unit,)
    middle = len(unit.batches) // 2
    halves: tuple[tuple[Batch, ...], ...] = (unit.batches[:middle], unit.batches[middle:])
    if len(unit.batches) == 1:
        (batch,) = unit.batches
        middle = len(batch) // 2
        halves = ((batch[:middle],), (batch[middle:],))
    return tuple(make_unit(unit.spec, half, unit.retry) for half in halves)


def plan_units(
    corpus: Sequence[Utterance],
    *,
    spec: str,
    unit_utterances: int,
    batch_seconds: float,
    held: Holdings = NOTHING,
    retry_failed: bool = False,
) -> Plan:
    """Cut ``corpus`` into the units that are not in the cache yet.

    Args:
        corpus: utterances with distinct ids, in corpus order.
        spec: fingerprint of the cache's spec.
        unit_utterances: utterances of a whole unit.
        batch_seconds: seconds of a padded batch.
        held: what the cache holds.
        retry_failed: whether what failed before is tried again.
    """
    ids = {utterance.id for utterance in corpus}
    present, failed = ids & held.present, (ids & held.failed) - held.present
    skipped = present if retry_failed else present | failed
    retry = fingerprint_of(sorted(held.units))
    units = []
    for whole in _slices(corpus, unit_utterances):
        batches = _without(cut_batches(whole, batch_seconds), skipped)
        if batches:
            again = any(u.id in failed for batch in batches for u in batch)
            units.append(make_unit(spec, batches, retry if again else ""))
    return Plan(units=tuple(units), present=len(present), failed=len(skipped - present))


def cut_batches(utterances: Iterable[Utterance], batch_seconds: float) -> tuple[Batch, ...]:
    """Batches of similar duration, longest first, each at most ``batch_seconds`` padded.

    An utterance longer than that, or one whose duration the manifest does not say, is a
    batch of its own.
    """
    batches: list[list[Utterance]] = []
    room = 0
    for utterance in sorted(utterances, key=lambda u: (-u.duration, u.id)):
        if room == 0 or not utterance.duration:
            batches.append([])
            room = max(1, int(batch_seconds / utterance.duration)) if utterance.duration else 1
        batches[-1].append(utterance)
        room -= 1
    return tuple(tuple(batch) for batch in batches)


def shown(ids: Sequence[str]) -> str:
    """The first few ids, quoted, for a message."""
    text = ", ".join(repr(name) for name in ids[:_SHOWN])
    return f"{text} and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else text


def _row(utterance: Utterance) -> list[object]:
    audio = utterance.audio
    row = [utterance.id, audio.path, audio.offset, audio.duration, utterance.text]
    # Left out where it says nothing, so that units that were planned before keep their names.
    return row if audio.speed == 1 else [*row, audio.speed]


def _slices(corpus: Sequence[Utterance], size: int) -> Iterator[Sequence[Utterance]]:
    for start in range(0, len(corpus), size):
        yield corpus[start : start + size]


def _without(batches: Iterable[Batch], ids: set[str]) -> tuple[Batch, ...]:
    kept = (tuple(u for u in batch if u.id not in ids) for batch in batches)
    return tuple(batch for batch in kept if batch)
