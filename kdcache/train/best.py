"""Which of a run's validations was the best, and how long there has been no better one."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Best:
    """What is remembered of a run's validations; part of every checkpoint.

    Attributes:
        step: of the best one; 0 before the first.
        values: all that it gave.
        value: of the metric there; the smaller the better.
        mark: the value that the next must fall below by ``min_delta`` to be an improvement.
        since: validations since the last improvement.
    """

    step: int = 0
    values: Mapping[str, float] = field(default_factory=dict)
    value: float = math.inf
    mark: float = math.inf
    since: int = 0

    def after(
        self, values: Mapping[str, float], metric: str, step: int, min_delta: float = 0.0
    ) -> Best:
        """With one more validation. NaN is never the best; of equal ones the first is."""
        value = values[metric]
        found = self
        if value < self.value:
            found = replace(self, step=step, values=dict(values), value=value)
        if value < self.mark - min_delta:
            return replace(found, mark=value, since=0)
        return replace(found, since=self.since + 1)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return asdict(self)
