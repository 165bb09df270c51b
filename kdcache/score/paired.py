"""How much better one way of training is than another, with a paired bootstrap interval.

Both arms are scored on the same utterances, so that each resample takes the same ones from both
(Bisani and Ney 2004, "Bootstrap estimates for confidence intervals in ASR performance
evaluation"). What is estimated is the relative change of the word error rate,

    Δ = (WER_arm − WER_control) ÷ WER_control,

the rates being means over the seeds of an arm. Groups (speakers) are resampled whole where they
are many enough, because the errors of one speaker are not independent. Seeds are not resampled:
the interval is of the test set, for these trained models; the spread over seeds stands beside it.

Shapes: S seeds, N utterances, G groups, R resamples.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kdcache.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcache.score.counts import ErrorCounts

FEWEST_GROUPS = 10
"""Fewer speakers than these are too few to resample; then utterances are."""


@dataclass(frozen=True, slots=True)
class RelativeChange:
    """An arm against its control.

    Attributes:
        change: Δ; negative where the arm makes fewer errors.
        low, high: its 95 % interval.
        resampled: ``speakers`` or ``utterances``.
    """

    change: float
    low: float
    high: float
    resampled: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return asdict(self)


def relative_change(
    arm: Sequence[ErrorCounts],
    control: Sequence[ErrorCounts],
    *,
    resamples: int = 10_000,
    seed: int = 0,
) -> RelativeChange | None:
    """Relative change of the word error rate, ``None`` where the control makes no error.

    Args:
        arm, control: each arm's models, one a seed.
        resamples: bootstrap samples; those in which the control makes no error are left out.
        seed: of the bootstrap.

    Raises:
        InputError: they were not scored on the same utterances.
    """
    _check_same([*arm, *control])
    labels, resampled = _groups(arm[0])
    arm_G = _mean_errors(arm, labels)
    control_G = _mean_errors(control, labels)
    if not control_G.sum():
        return None
    random = np.random.RandomState(seed)
    drawn_RG = random.randint(0, len(arm_G), size=(resamples, len(arm_G)))
    arm_R, control_R = arm_G[drawn_RG].sum(1), control_G[drawn_RG].sum(1)
    some_R = control_R > 0
    # Both rates have the same words below the line, resample by resample.
    changes_R = arm_R[some_R] / control_R[some_R] - 1.0
    low, high = np.quantile(changes_R, [0.025, 0.975])
    change = float(arm_G.sum() / control_G.sum() - 1.0)
    return RelativeChange(change, float(low), float(high), resampled)


def _groups(counts: ErrorCounts) -> tuple[Sequence[str], str]:
    if len(set(counts.groups)) >= FEWEST_GROUPS:
        named = len(set(counts.groups)) < len(counts.ids)
        return counts.groups, "speakers" if named else "utterances"
    return counts.ids, "utterances"


def _mean_errors(counts: Sequence[ErrorCounts], labels: Sequence[str]) -> np.ndarray:
    """Errors of each group, mean over seeds: (G,)."""
    _, group_N = np.unique(np.asarray(labels), return_inverse=True)
    errors_N = np.array([one.errors for one in counts], dtype=np.float64).mean(0)
    errors_G: np.ndarray = np.bincount(group_N, errors_N)
    return errors_G


def _check_same(counts: Sequence[ErrorCounts]) -> None:
    first = counts[0]
    for other in counts[1:]:
        if (other.ids, other.words) != (first.ids, first.words):
            raise InputError(
                f"{other.labels} and {first.labels} were not scored on the same utterances; "
                "score both on one manifest."
            )
