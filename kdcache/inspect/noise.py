"""Transcripts that the teacher finds unlikely: those that may be wrong.

An utterance's figure is −log P(y | x) a label, in nats: from the catalogue where the cache has a
target of scores, else from the cached lattices (of a band, over the paths that it holds, which
is no less).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kdcache.codec import LatticeRecord
from kdcache.errors import UnsupportedTargetError
from kdcache.inspect.fields import Fields
from kdcache.inspect.paths import full_sum
from kdcache.inspect.select import Best, matching, matching_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from kdcache.store import Cache

MEASURE = "nats_per_label"


@dataclass(frozen=True, slots=True)
class Unlikely:
    """One utterance.

    Attributes:
        id, text: which.
        labels: of its transcript.
        nats_per_label: −log P a label; +inf where the teacher has no path at all.
    """

    id: str
    text: str
    labels: int
    nats_per_label: float


@dataclass(frozen=True, slots=True)
class Noise:
    """The most unlikely transcripts.

    Attributes:
        target: that tells it.
        utterances: the most unlikely first.
    """

    target: str
    utterances: tuple[Unlikely, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return asdict(self)


def find_noise(
    cache: Cache,
    where: str | None = None,
    top: int | None = None,
    update: Callable[[int, int], None] = lambda done, total: None,
) -> Noise:
    """Find transcripts that may be wrong.

    Args:
        cache: an open cache.
        where: a condition on utterances (``kdcache.inspect.where``).
        top: how many to give; all unless given.
        update: told how many lattices are read, of how many.

    Raises:
        ConfigError: ``where`` is no condition on this cache's fields.
        UnsupportedTargetError: the cache holds neither scores nor lattices.
    """
    best = Best(top, ascending=False)
    scores, lattices = (
        next((t.name for t in cache.spec.targets if t.record == record), None)
        for record in ("score", "lattice")
    )
    if scores is not None and f"{scores}.{MEASURE}" in Fields(cache).names:
        _add_scores(cache, scores, where, best)
    elif lattices is not None:
        _add_lattices(cache, lattices, where, best, update)
    else:
        raise UnsupportedTargetError(
            f"{cache.location} tells nothing of its transcripts' probability: that takes a "
            "target of kind full_sum or lattice."
        )
    return Noise(scores or lattices or "", _named(cache, best))


def _add_scores(cache: Cache, name: str, where: str | None, best: Best) -> None:
    fields = Fields(cache)
    field = fields.find(f"{name}.{MEASURE}")
    for start, block, at_M in matching(fields, where, [field]):
        values_M = block[field.name].to_numpy()[at_M]
        # No figure means that the teacher has no path.
        best.add(start + at_M, np.where(np.isnan(values_M), np.inf, values_M))


def _add_lattices(
    cache: Cache,
    name: str,
    where: str | None,
    best: Best,
    update: Callable[[int, int], None],
) -> None:
    rows_N = np.concatenate([np.empty(0, np.int64), *matching_rows(cache, where)])
    for done, row in enumerate(rows_N.tolist(), 1):
        record = cache.read_target(row, name)
        assert isinstance(record, LatticeRecord), "a target's records are of its kind"
        nats = -full_sum(record) / max(record.labels, 1)
        best.add(np.array([row]), np.array([nats]))
        update(done, len(rows_N))


def _named(cache: Cache, best: Best) -> tuple[Unlikely, ...]:
    fields = Fields(cache)
    asked = [fields.find(name) for name in ("id", "text", "labels")]
    rows = fields.take(best.rows(), asked)
    return tuple(
        Unlikely(row["id"], row["text"] or "", int(row["labels"]), nats)
        for row, nats in zip(rows, best.keys().tolist(), strict=True)
    )
