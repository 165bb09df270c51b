"""How much of a step's time goes into waiting for the stream."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kdcache.train.world import World


@dataclass(frozen=True, slots=True)
class StepTimes:
    """Times of a run at one of its steps.

    Attributes:
        seconds: since the run was started, this time.
        waiting: of these, seconds of waiting for batches: in each step those of the worker
            that waited longest, since all others wait for it.
        stall: the share of this step's time that went into waiting, 0 to 1.
    """

    seconds: float
    waiting: float
    stall: float

    def to_dict(self) -> dict[str, float]:
        """Rounded, for the metrics."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


class StallClock:
    """Times steps, from the moment it is made; every worker has one and ticks once a step."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._began = self._before = time.monotonic()
        self._waited = self._waiting = 0.0

    def tick(self, waited: float) -> StepTimes:
        """The times of the step that ends now.

        Args:
            waited: seconds that this worker has waited for batches since it began.
        """
        longest = self._world.largest(waited - self._waited)
        now = time.monotonic()
        taken, self._before, self._waited = now - self._before, now, waited
        self._waiting += longest
        return StepTimes(now - self._began, self._waiting, min(longest / max(taken, 1e-9), 1.0))
