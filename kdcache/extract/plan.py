"""What is to be done: a corpus cut into work units, and units into batches.

Everything here is a pure function of the corpus, the cache's spec and what the cache holds
already; nothing depends on how many actors there are, which of them takes a unit, or how
often the run was interrupted. So the same corpus always gives the same units, the same
padded batches and, on a device with reproducible arithmetic, the same bytes.

A unit is named by a digest of what it computes. A unit of which a part is already in the
cache keeps the batches that it has in the whole corpus, less what is present, and gets a
name of its own from what remains.

A plan is two bits an utterance, as a byte each, beside the corpus that it is of: units are made
when they are looked at. So a plan of millions takes megabytes (docs/scale.md).

Shapes: N utterances of the corpus.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

import numpy as np

from kdcache.corpus.table import UtteranceTable, among
from kdcache.types import Utterance, fingerprint_of

if TYPE_CHECKING:
    from collections.abc import Iterable

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
class Cut:
    """How a corpus is cut into units.

    Attributes:
        spec: fingerprint of the cache's spec.
        unit_utterances: utterances of a whole unit.
        batch_seconds: seconds of a padded batch.
        retry: of units with utterances that had failed; see :class:`Unit`.
    """

    spec: str
    unit_utterances: int
    batch_seconds: float
    retry: str


class PlannedUnits(Sequence[Unit]):
    """Units in corpus order, each made when it is asked for, and the same every time.

    Args:
        corpus: all utterances, N of them.
        cut: into what.
        missing_N: bool, those to be computed.
        again_N: bool, those of them that had failed.
    """

    def __init__(
        self, corpus: Sequence[Utterance], cut: Cut, missing_N: np.ndarray, again_N: np.ndarray
    ) -> None:
        self._corpus, self._cut = corpus, cut
        self._missing_N, self._again_N = missing_N, again_N
        starts = np.arange(0, len(corpus), cut.unit_utterances)
        counts = np.add.reduceat(missing_N, starts, dtype=np.int64) if len(starts) else starts
        self._starts = starts[counts > 0]
        self.utterances = int(counts.sum())

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> Unit: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Unit, ...]: ...

    def __getitem__(self, index: int | slice) -> Unit | tuple[Unit, ...]:
        if isinstance(index, slice):
            return tuple(self._make(int(start)) for start in self._starts[index])
        return self._make(int(self._starts[index]))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(self) != len(other):
            return False
        return all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def _make(self, start: int) -> Unit:
        cut, here = self._cut, slice(start, start + self._cut.unit_utterances)
        whole, missing_N = self._corpus[here], self._missing_N[here]
        skipped = {u.id for u, missing in zip(whole, missing_N, strict=True) if not missing}
        batches = _without(cut_batches(whole, cut.batch_seconds), skipped)
        return make_unit(cut.spec, batches, cut.retry if self._again_N[here].any() else "")


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will do.

    Attributes:
        units: the work, in corpus order.
        present: utterances of the corpus that the cache holds already.
        failed: utterances that failed before and are left alone.
    """

    units: PlannedUnits
    present: int
    failed: int

    @property
    def missing(self) -> int:
        """Utterances to be computed."""
        return self.units.utterances


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
    ids = UtteranceTable.of(corpus).ids
    present_N = among(ids, held.present)
    failed_N = among(ids, held.failed) & ~present_N
    again_N = failed_N if retry_failed else np.zeros_like(failed_N)
    cut = Cut(spec, unit_utterances, batch_seconds, fingerprint_of(sorted(held.units)))
    units = PlannedUnits(corpus, cut, ~present_N & ~(failed_N & ~again_N), again_N)
    return Plan(units, int(present_N.sum()), int((failed_N & ~again_N).sum()))


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


def _without(batches: Iterable[Batch], ids: set[str]) -> tuple[Batch, ...]:
    kept = (tuple(u for u in batch if u.id not in ids) for batch in batches)
    return tuple(batch for batch in kept if batch)
