"""How far a run is: counts, rates and the time that is left."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from kdcache.extract.pool import Done

RECENT = 300.0
"""Seconds that the time left is estimated from: a pool grows and shrinks meanwhile."""

_MARKS = 100
"""Moments of these that are kept; more often than that nothing is noted."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How far a run is.

    Attributes:
        done: utterances that this run has committed or recorded as failed.
        total: utterances that it set out to do.
        failed: those of ``done`` that failed.
        audio_seconds: audio that went into the cache.
        seconds: since the first actor was asked for.
        bytes: of the shards and catalogue parts of finished units.
        halvings: how often a batch was halved because a device had no memory for it.
        actors: that have started and live.
        gpu: share of its time that the busiest GPU of this machine computes, 0 to 1; ``None``
            where there is none to be asked.
        seconds_left: at the rate of the last minutes; ``None`` until that can be told.
    """

    done: int
    total: int
    failed: int
    audio_seconds: float
    seconds: float
    bytes: int = 0
    halvings: int = 0
    actors: int = 0
    gpu: float | None = None
    seconds_left: float | None = None

    @property
    def speed(self) -> float:
        """Seconds of audio per second, all actors together."""
        return self.audio_seconds / self.seconds if self.seconds else 0.0

    @property
    def note(self) -> str:
        """Hours, speed, bytes, actors and failures, for a progress line."""
        actors = "1 actor" if self.actors == 1 else f"{self.actors} actors"
        if not self.done:
            return f"waiting for the first unit, {actors}"
        parts = [f"{self.audio_seconds / 3600:.2f} h at {self.speed:.0f}× real time"]
        parts += [f"{self.bytes / 1e6:.1f} MB", actors]
        parts += [f"GPU {100 * self.gpu:.0f} %"] if self.gpu is not None else []
        parts += [f"{self.halvings} batches halved"] if self.halvings else []
        parts += [f"{self.failed} failed"] if self.failed else []
        return ", ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form, with the speed."""
        return {**asdict(self), "speed": self.speed}


@dataclass(slots=True)
class Tally:
    """Counts a run's progress.

    Attributes:
        total: utterances to do.
        watch: told of every change, and at least every second.
        clock: seconds, monotonic.
        gpu: how busy this machine's GPUs are; see :class:`Snapshot`.
    """

    total: int
    watch: Callable[[Snapshot], None]
    clock: Callable[[], float] = time.monotonic
    gpu: Callable[[], float | None] = lambda: None
    done: int = 0
    failed: int = 0
    audio_seconds: float = 0.0
    bytes: int = 0
    halvings: int = 0
    actors: int = 0
    started: float = field(init=False)
    _marks: deque[tuple[float, int]] = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.clock()
        self._marks = deque([(0.0, 0)])

    def add(self, done: Done) -> None:
        """A unit is finished."""
        self.done += done.packed + done.failed
        self.failed += done.failed
        self.audio_seconds += done.audio_seconds
        self.bytes += done.bytes
        self.halvings += done.halvings
        self.show()

    def add_given_up(self) -> None:
        """An utterance that no actor survives is recorded."""
        self.done += 1
        self.failed += 1
        self.show()

    def show(self) -> None:
        """Tell the watcher."""
        self.watch(self.snapshot())

    def snapshot(self) -> Snapshot:
        """How far the run is."""
        seconds = self.clock() - self.started
        return Snapshot(
            done=self.done,
            total=self.total,
            failed=self.failed,
            audio_seconds=self.audio_seconds,
            seconds=seconds,
            bytes=self.bytes,
            halvings=self.halvings,
            actors=self.actors,
            gpu=self.gpu(),
            seconds_left=self._seconds_left(seconds),
        )

    def _seconds_left(self, now: float) -> float | None:
        """From what was done since the oldest moment that is remembered."""
        marks = self._marks
        if now - marks[-1][0] >= RECENT / _MARKS:
            marks.append((now, self.done))
        while len(marks) > 1 and marks[1][0] <= now - RECENT:
            marks.popleft()
        seconds, done = now - marks[0][0], self.done - marks[0][1]
        if seconds <= 0 or done <= 0:
            return None
        return (self.total - self.done) * seconds / done
