"""How a target's settings came about, where they were chosen for a goal and not written by hand.

A choice is part of ``kdcache.json`` but not of the spec: a cache with chosen settings is the
same cache as one for which somebody wrote them down.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class Considered:
    """A setting that was measured on the sample.

    Attributes:
        settings, codec: as in a ``TargetSpec``; of a model of the rest its kind alone.
        bytes_per_hour: of audio, of the target's arrays, a table that the codec needs spread
            over the corpus among them.
        mean: of the divergence, nats a row.
        upper: what the mean of the corpus hardly exceeds.
        p99: 99th percentile over rows, nats.
    """

    settings: dict[str, Any]
    codec: dict[str, Any]
    bytes_per_hour: float
    mean: float
    upper: float
    p99: float

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Considered:
        """Inverse of ``asdict``."""
        return cls(**{f.name: data[f.name] for f in fields(cls)})


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen for a target, among what, and by what.

    Attributes:
        target: its name.
        max_kl: the goal, nats a row.
        measure: which divergence: ``kl_full``, ``kl`` or ``kl_sampled``, as in the catalogue.
        band: whether what lies outside a lattice's band was counted as well.
        asked: ``settings`` and ``codec`` that the configuration had fixed.
        candidates: how many settings were measured.
        utterances: of the sample.
        hours: of audio of the part of the sample that the figures are of.
        picked: the cheapest within the goal.
        others: the next ones on either side of it, by bytes.
    """

    target: str
    max_kl: float
    measure: str
    band: bool
    asked: dict[str, Any]
    candidates: int
    utterances: int
    hours: float
    picked: Considered
    others: tuple[Considered, ...] = ()

    @property
    def table(self) -> list[Considered]:
        """The picked one among the others, by bytes."""
        return sorted([self.picked, *self.others], key=lambda row: row.bytes_per_hour)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {**asdict(self), "others": [asdict(other) for other in self.others]}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Choice:
        """Inverse of :meth:`to_dict`."""
        known = {f.name: data[f.name] for f in fields(cls)}
        picked = Considered.from_dict(data["picked"])
        others = tuple(Considered.from_dict(other) for other in data["others"])
        return cls(**{**known, "picked": picked, "others": others})
