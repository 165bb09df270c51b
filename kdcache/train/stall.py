"""How much of a step's time goes into waiting for the stream."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kdcache.train.world import World


@dataclass(frozen=True, slots=True)
class StepTimes:
    """Times of a run at one of its steps.

    Attributes:
        seconds: since the run was started, this time.
        waiting: of these, seconds of waiting for batches: in each step those of the worker
            that waited longest, since all others wait for it.
        stall: the share of this step's time that went into waiting, 0 to 1.
        step_seconds: of this step.
    """

    seconds: float
    waiting: float
    stall: float
    step_seconds: float

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
        stall = min(longest / max(taken, 1e-9), 1.0)
        return StepTimes(now - self._began, self._waiting, stall, taken)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens in this block is not training, and is no step's time."""
        begun = time.monotonic()
        yield
        pause = time.monotonic() - begun
        self._began += pause
        self._before += pause
