"""Arms of an experiment side by side: rates over seeds, changes against controls, sizes.

An arm is all models whose labels are equal but for the seed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any

from kdcache.errors import ConfigError
from kdcache.score.paired import RelativeChange, relative_change

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kdcache.score.counts import ErrorCounts

Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Arm:
    """One row of a comparison.

    Attributes:
        name: its labels' values, joined.
        labels: of all its models, the seed left out.
        seeds: how many models.
        wer, wer_low, wer_high: mean, least and greatest over seeds.
        changes: by control, against it; ``None`` where there is no such control for this arm.
        figures: means over seeds.
    """

    name: str
    labels: dict[str, str]
    seeds: int
    wer: float
    wer_low: float
    wer_high: float
    changes: dict[str, RelativeChange | None]
    figures: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        changes = {name: found and found.to_dict() for name, found in self.changes.items()}
        return {
            "name": self.name,
            "labels": self.labels,
            "seeds": self.seeds,
            "wer": self.wer,
            "wer_low": self.wer_low,
            "wer_high": self.wer_high,
            "changes": changes,
            "figures": self.figures,
        }


def compare_arms(
    counts: Sequence[ErrorCounts],
    controls: Mapping[str, Mapping[str, Any]],
    *,
    seed_label: str = "seed",
    resamples: int = 10_000,
) -> list[Arm]:
    """All arms, in the order in which they first appear.

    Args:
        counts: of all models.
        controls: by a heading, the labels by which an arm's control differs from the arm; for
            example ``{"kd": "none"}``: the same arm without a teacher.
        seed_label: the label that tells models of one arm apart.
        resamples: of the bootstrap.

    Raises:
        ConfigError: a control fits no arm at all.
        InputError: models were scored on different utterances.
    """
    arms: dict[Labels, list[ErrorCounts]] = {}
    for one in counts:
        arms.setdefault(_labels(one.labels, seed_label), []).append(one)
    rows = [_row(labels, arms, controls, seed_label, resamples) for labels in arms]
    for heading in controls:
        if all(row.changes[heading] is None for row in rows):
            known = "; ".join(row.name for row in rows)
            raise ConfigError(
                f"The control {dict(controls[heading])} ({heading!r}) fits no arm; there are "
                f"{known}."
            )
    return rows


def _row(
    labels: Labels,
    arms: Mapping[Labels, Sequence[ErrorCounts]],
    controls: Mapping[str, Mapping[str, Any]],
    seed_label: str,
    resamples: int,
) -> Arm:
    own = arms[labels]
    rates = [one.wer for one in own]
    changes = {}
    for heading, changed in controls.items():
        other = _control(labels, changed)
        there = other in arms and other != labels
        changes[heading] = relative_change(own, arms[other], resamples=resamples) if there else None
    names = [name for name in own[0].figures if all(name in one.figures for one in own)]
    return Arm(
        name=_name(own[0], seed_label),
        labels={name: str(value) for name, value in own[0].labels.items() if name != seed_label},
        seeds=len(own),
        wer=fmean(rates),
        wer_low=min(rates),
        wer_high=max(rates),
        changes=changes,
        figures={name: fmean(one.figures[name] for one in own) for name in names},
    )


def _control(labels: Labels, changed: Mapping[str, Any]) -> Labels:
    """The labels of the arm's control; an arm that lacks one of them has none."""
    if not changed.keys() <= dict(labels).keys():
        return frozenset()
    return frozenset((name, str(changed.get(name, value))) for name, value in labels)


def _labels(labels: Mapping[str, Any], seed_label: str) -> Labels:
    return frozenset((name, str(value)) for name, value in labels.items() if name != seed_label)


def _name(counts: ErrorCounts, seed_label: str) -> str:
    values = [str(value) for name, value in counts.labels.items() if name != seed_label]
    return " · ".join(values) or "(no labels)"
