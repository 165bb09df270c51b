"""Where the time of a unit went: seconds of each stage, counted by the threads that do the work."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, fields
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True, slots=True)
class StageSeconds:
    """Seconds in each stage. Stages overlap: their sum may be more than the seconds that passed.

    Attributes:
        decode: reading and resampling audio, all decoding threads together.
        teacher: the teacher's forward.
        encode: reducing its answers to targets and packing these.
        write: committing.
    """

    decode: float = 0.0
    teacher: float = 0.0
    encode: float = 0.0
    write: float = 0.0

    def __add__(self, other: StageSeconds) -> StageSeconds:
        return StageSeconds(*map(sum, zip(self._values(), other._values(), strict=True)))

    def shares(self) -> dict[str, float]:
        """Each stage's part of the sum of all; zeros where nothing was done."""
        whole = sum(self._values()) or 1.0
        names = (field.name for field in fields(self))
        return {name: value / whole for name, value in zip(names, self._values(), strict=True)}

    def _values(self) -> tuple[float, ...]:
        return self.decode, self.teacher, self.encode, self.write


class Gauge:
    """Counts for one unit; several threads may do so at once.

    Args:
        clock: seconds; the wall's, or those that a thread has computed.

    Attributes:
        halvings: batches that did not fit in memory and were cut in two.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.halvings = 0
        self._clock = clock
        self._seconds = dict.fromkeys((field.name for field in fields(StageSeconds)), 0.0)
        self._lock = Lock()

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        """Count the seconds of the block for ``stage``."""
        started = self._clock()
        try:
            yield
        finally:
            seconds = self._clock() - started
            with self._lock:
                self._seconds[stage] += seconds

    @property
    def seconds(self) -> StageSeconds:
        """What was counted so far."""
        with self._lock:
            return StageSeconds(**self._seconds)
