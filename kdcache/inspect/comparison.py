"""What two caches of the same utterances have in common, and how far they differ: the figures."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdcache.inspect.summary import CacheSummary


ABSOLUTE = ("vector", "score", "hypotheses")
"""Kinds of records that are no posteriors: their absolute error is told."""


@dataclass(frozen=True, slots=True)
class Figures:
    """How far B's rows are from A's: of an utterance, or of all.

    Attributes:
        rows: frames, nodes or tokens that both sides have; of vectors, frames.
        mean, p99, max: over the rows. Of posteriors the divergence KL(A ‖ B) in nats, rows
            where it is infinite left out; of vectors the absolute error of their elements; of
            scores, and of the best of several hypotheses, that of the log-probability, in nats.
            ``None`` where there is no such row.
        infinite: rows in which B gives probability 0 to a class that A does not, or to a score
            that A does.
        changed: rows whose likeliest class, or best hypothesis, differs; ``None`` of vectors
            and scores.
    """

    rows: int
    mean: float | None
    p99: float | None
    max: float | None
    infinite: int = 0
    changed: int | None = None


@dataclass(frozen=True, slots=True)
class BestPaths:
    """How far the best paths of A and B are apart: of an utterance, or of all.

    Attributes:
        utterances: that have a best path on both sides.
        other: of these, those whose paths are not the same.
        labels: of A's paths.
        differ: of a lattice, labels that B's path says in another frame; of CTC and of
            hypotheses, labels to insert, delete or replace to make A's sequence B's.
        seconds: that the labels of a lattice's paths are apart, all added up; ``None`` of others.
    """

    utterances: int
    other: int
    labels: int
    differ: int
    seconds: float | None = None

    def __add__(self, more: BestPaths) -> BestPaths:
        seconds = None
        if self.seconds is not None and more.seconds is not None:
            seconds = self.seconds + more.seconds
        return BestPaths(
            self.utterances + more.utterances,
            self.other + more.other,
            self.labels + more.labels,
            self.differ + more.differ,
            seconds,
        )


@dataclass(frozen=True, slots=True)
class UtteranceComparison:
    """One target of one utterance; ``paths`` is ``None`` where it has no best path."""

    id: str
    figures: Figures
    paths: BestPaths | None = None


@dataclass(frozen=True, slots=True)
class TargetComparison:
    """One target that both caches hold.

    Attributes:
        name, kind, record: as in both their ``TargetSpec``.
        row: what is compared: ``frame``, ``node``, ``token`` or ``utterance``.
        rows_a, rows_b: all that each side has; of bands of a lattice not all are shared.
        figures: in all. ``p99`` is known within 1 %.
        utterances: each of them, by id; there ``p99`` is exact.
        paths: how far best paths are apart, in all; ``None`` where no utterance has any.
    """

    name: str
    kind: str
    record: str
    row: str
    rows_a: int
    rows_b: int
    figures: Figures
    utterances: tuple[UtteranceComparison, ...]
    paths: BestPaths | None = None

    def worst(self, count: int) -> list[UtteranceComparison]:
        """Those of the largest mean; before them any with infinite rows, most first."""

        def badness(item: UtteranceComparison) -> tuple[float, float, str]:
            return -item.figures.infinite, -(item.figures.mean or 0.0), item.id

        return sorted(self.utterances, key=badness)[:count]


@dataclass(frozen=True, slots=True)
class Overlap:
    """Utterances of either cache.

    Attributes:
        common: how many are in both; ``only_a``, ``only_b``: in one alone.
        named_a, named_b: the first few of those in one alone.
        compared: how many of the common ones were read: all, or an evenly spaced sample.
    """

    common: int
    only_a: int
    only_b: int
    named_a: tuple[str, ...]
    named_b: tuple[str, ...]
    compared: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two caches; A is the reference.

    Attributes:
        a, b: each in figures.
        overlap: utterances in common.
        targets: those that both hold.
    """

    a: CacheSummary
    b: CacheSummary
    overlap: Overlap
    targets: tuple[TargetComparison, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "a": _side(self.a),
            "b": _side(self.b),
            "utterances": asdict(self.overlap),
            "targets": [asdict(target) for target in self.targets],
        }


def bytes_per_hour(count: int, hours: float) -> float | None:
    """``None`` where there is no audio."""
    return count / hours if hours else None


def _side(summary: CacheSummary) -> dict[str, Any]:
    hours = summary.hours
    targets = [
        {**asdict(target), "bytes_per_hour": bytes_per_hour(target.bytes, hours)}
        for target in summary.targets
    ]
    return {**summary.to_dict(), "targets": targets}
