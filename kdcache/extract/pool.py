"""The pull loop: actors are given a unit each, and those that die are replaced.

An actor that works on a unit is given another, so that it never waits for the loop: but only
while there are units for all, and never one that was in the hands of an actor that died.

Ray is behind the small :class:`Actors` protocol, so that the loop can be tested against
scripted deaths. Every failure of a call is treated alike: the actor is lost, its unit goes
back to the queue, and another actor takes its place. It may still be alive somewhere and
finish; commits are first-wins, so that does no harm.

One utterance that kills actors is found by bisection (see ``queue``). An actor that was lost
with its node is not held against its unit at first. When *every* unit kills its actor, the
fault is not in the corpus, and the run ends instead of giving up the corpus one utterance after
another. Between losses, and while the storage fails, the loop rests for longer and longer.

How many actors there are may change while the loop runs. Of too many, those go that wait for a
place in the cluster, then idle ones; one that has a unit goes when it has finished.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from kdcache.errors import KdcacheError, StorageError, StorageFullError
from kdcache.extract.gauge import StageSeconds
from kdcache.extract.patience import Rest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from kdcache.extract.events import Tell
    from kdcache.extract.plan import Unit
    from kdcache.extract.queue import Task, WorkQueue

WAIT_SECONDS = 1.0
"""How long the loop waits for news before it looks at the clock and at signals."""

STARTS_IN_A_ROW = 3
"""Actors that may die one after another before they can take a unit."""

_DEATHS_PER_ATTEMPT = 4
"""With ``max_attempts`` 3, twelve deaths in a row without one unit done end the run."""

_NODES_IN_A_ROW = 50
"""How often actors may be lost with their nodes without one unit done: with the rests between,
the better part of an hour."""


class ActorLostError(Exception):
    """A call did not come back: the actor is dead, out of reach, or has failed inside.

    Args:
        why: in one line.
        with_node: whether its node was lost, or the way to it, so that its unit is not to blame.
    """

    def __init__(self, why: str, *, with_node: bool = False) -> None:
        super().__init__(why)
        self.with_node = with_node


@dataclass(frozen=True, slots=True)
class Done:
    """What an actor tells of a unit that it finished.

    Attributes:
        packed: utterances that are now in the cache.
        failed: utterances recorded as failed.
        audio_seconds: audio that was packed.
        seconds: how long the unit took, from when the actor was given it.
        halvings: batches that did not fit in memory and were cut in two.
        stages: where the time went.
        bytes: of its shard and catalogue part.
        failures: id, code and message of those that failed.
    """

    packed: int
    failed: int
    audio_seconds: float
    seconds: float
    halvings: int = 0
    stages: StageSeconds = field(default_factory=StageSeconds)
    bytes: int = 0
    failures: tuple[tuple[str, str, str], ...] = ()


class Actors(Protocol):
    """What the loop needs of Ray. ``Actor`` and ``Call`` are Ray's handles, opaque here."""

    def spawn(self) -> tuple[Any, Any]:
        """Start an actor: its handle, and the call that is over when it is ready."""
        ...

    def submit(self, actor: Any, unit: Unit) -> Any:
        """Give an actor a unit: the call."""
        ...

    def wait(self, calls: Collection[Any], seconds: float) -> list[Any]:
        """Calls that are over, after at most ``seconds``."""
        ...

    def result(self, call: Any) -> Done | KdcacheError | None:
        """What a call gave: ``Done`` for a unit, ``None`` for a start, an error for either.

        Raises:
            ActorLostError: it gave nothing.
        """
        ...

    def kill(self, actor: Any) -> None:
        """End an actor, if it is there still."""
        ...


@dataclass(frozen=True, slots=True)
class _Flight:
    """A call under way; no task while the actor starts."""

    actor: Any
    task: Task | None


def _nobody(event: str, /, **about: Any) -> None:
    """Nobody wants to know."""


class Pool:
    """Drains a queue with a number of actors.

    Args:
        actors: how they are started and called.
        queue: the units.
        size: actors at once; see :meth:`resize`.
        max_attempts: of a unit; here it only scales how much bad luck is believed.
        on_done: called with each finished unit.
        give_up: called with a unit of one utterance that no actor survives, and why.
        tell: told what happens; see ``kdcache.extract.events``.
        clock, sleep: of time.
    """

    def __init__(
        self,
        actors: Actors,
        queue: WorkQueue,
        *,
        size: int,
        max_attempts: int,
        on_done: Callable[[Done], None],
        give_up: Callable[[Unit, str], None],
        tell: Tell = _nobody,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._actors = actors
        self._queue = queue
        self._size = size
        self._max_deaths = max(2, max_attempts) * _DEATHS_PER_ATTEMPT
        self._on_done = on_done
        self._give_up = give_up
        self._tell = tell
        self._flights: dict[Any, _Flight] = {}
        # The same by actor, kept beside it: looked for among thousands of actors at every call.
        self._busy: dict[Any, dict[Any, Task | None]] = {}
        self._starting = 0
        self._idle: list[Any] = []
        self._sleep = sleep
        self._deaths = 0
        self._failed_starts = 0
        self._losses = Rest(clock, free=1)  # the first replacement is started at once
        self._refusals = Rest(clock)

    @property
    def alive(self) -> int:
        """Actors that have started and were not lost since."""
        return len(self._busy) - self._starting + len(self._idle)

    def resize(self, size: int) -> None:
        """From now on as many actors at once; those in excess go as soon as they have no unit."""
        self._size = size

    def run(self, keep_going: Callable[[], bool]) -> None:
        """Work until the queue is drained or ``keep_going``, asked each second, says no.

        Raises:
            KdcacheError: what an actor cannot work with, or too many deaths in a row.
        """
        try:
            while keep_going() and self._unfinished():
                self._fill()
                if not self._flights:
                    self._sleep(WAIT_SECONDS)
                    continue
                for call in self._actors.wait(self._flights.keys(), WAIT_SECONDS):
                    if call in self._flights:  # else its actor has just been lost
                        self._land(call)
        finally:
            for actor in [*self._busy, *self._idle]:
                self._actors.kill(actor)

    def _unfinished(self) -> bool:
        return len(self._queue) > 0 or any(flight.task for flight in self._flights.values())

    def _fill(self) -> None:
        """Give idle actors work, and start as many more as have a unit waiting."""
        self._shrink()
        if self._refusals.over:
            self._hand_out()
        if self._losses.over:
            self._start()

    def _shrink(self) -> None:
        """Let actors go that are too many and have no unit, those first that have not started."""
        excess = self._excess()
        if excess <= 0:
            return
        starting = [call for call, flight in self._flights.items() if flight.task is None]
        for call in starting[::-1][:excess]:
            self._actors.kill(self._take_off(call).actor)
        for _ in range(min(excess - len(starting), len(self._idle))):
            self._actors.kill(self._idle.pop())
            self._tell("actor_released", actors=self.alive)

    def _excess(self) -> int:
        return len(self._busy) + len(self._idle) - self._size

    def _hand_out(self) -> None:
        while self._idle and (task := self._queue.take()):
            self._submit(self._idle.pop(), task)
        if self._excess() > 0:
            return
        for actor, calls in self._busy.items():
            if len(self._queue) < self._size:
                return
            one = next(iter(calls.values())) if len(calls) == 1 else None
            if one and not one.suspect and (task := self._queue.take_second()):
                self._submit(actor, task)

    def _submit(self, actor: Any, task: Task) -> None:
        self._put_on(self._actors.submit(actor, task.unit), _Flight(actor, task))

    def _put_on(self, call: Any, flight: _Flight) -> None:
        self._flights[call] = flight
        self._busy.setdefault(flight.actor, {})[call] = flight.task
        self._starting += flight.task is None

    def _take_off(self, call: Any) -> _Flight:
        flight = self._flights.pop(call)
        calls = self._busy[flight.actor]
        del calls[call]
        if not calls:
            del self._busy[flight.actor]
        self._starting -= flight.task is None
        return flight

    def _start(self) -> None:
        room = self._size - len(self._busy) - len(self._idle)
        for _ in range(min(room, len(self._queue) - self._starting - len(self._idle))):
            actor, call = self._actors.spawn()
            self._put_on(call, _Flight(actor, None))

    def _land(self, call: Any) -> None:
        flight = self._take_off(call)
        try:
            result = self._actors.result(call)
        except ActorLostError as error:
            self._actors.kill(flight.actor)
            self._lost([flight.task, *self._forget(flight.actor)], error)
            return
        if flight.actor not in self._busy:
            self._idle.append(flight.actor)
        if isinstance(result, KdcacheError):
            self._refused(flight.task, result)
        elif result is None or flight.task is None:
            self._failed_starts = 0
            self._tell("actor_started", actors=self.alive)
        else:
            self._deaths = 0
            self._losses.succeeded()
            self._refusals.succeeded()
            self._on_done(result)
            self._tell_done(flight.task.unit.key, result)

    def _tell_done(self, unit: str, done: Done) -> None:
        for name, code, message in done.failures:
            self._tell("utterance_failed", unit=unit, id=name, code=code, message=message)
        if done.halvings:
            self._tell("batch_halved", unit=unit, halvings=done.halvings)
        about = {"packed": done.packed, "failed": done.failed, "bytes": done.bytes}
        times = {"audio_seconds": done.audio_seconds, "unit_seconds": done.seconds}
        self._tell("unit_done", unit=unit, **about, **times, halvings=done.halvings)

    def _refused(self, task: Task | None, error: KdcacheError) -> None:
        """Storage may recover; anything else would be the same for every unit."""
        if task is None or not isinstance(error, StorageError):
            raise error
        self._refusals.failed()
        self._tell("storage_refused", unit=task.unit.key, code=error.code, message=error.message)
        if isinstance(error, StorageFullError) or self._queue.refused(task):
            raise error
        self._tell("unit_retried", unit=task.unit.key, parts=1)

    def _forget(self, actor: Any) -> list[Task | None]:
        """What else a lost actor had."""
        return [self._take_off(call).task for call in list(self._busy.get(actor, ()))]

    def _lost(self, tasks: list[Task | None], error: ActorLostError) -> None:
        self._losses.failed()
        units = [task.unit.key for task in tasks if task is not None]
        about = {"units": units, "with_node": error.with_node, "why": str(error)}
        self._tell("actor_lost", actors=self.alive, **about)
        if error.with_node:
            self._lost_with_node(tasks, str(error))
        elif len(tasks) > 1:
            self._died_in_company(tasks, str(error))
        elif tasks[0] is None:
            self._died_starting(str(error))
        else:
            self._died(tasks[0], str(error))

    def _lost_with_node(self, tasks: list[Task | None], why: str) -> None:
        if self._losses.failures >= _NODES_IN_A_ROW:
            raise KdcacheError(
                f"Teacher actors were lost {self._losses.failures} times in a row without "
                f"finishing a unit, the last one with its node ({why}); once the cluster is "
                "sound, the same command resumes."
            )
        for task in tasks:
            if task is not None:
                self._return(task, why, self._queue.lost_with_node)

    def _died_starting(self, why: str) -> None:
        self._failed_starts += 1
        if self._failed_starts >= STARTS_IN_A_ROW:
            raise KdcacheError(
                f"{STARTS_IN_A_ROW} teacher actors in a row died while they were starting "
                f"({why}). Often there is too little memory for so many: try fewer actors."
            )

    def _died(self, task: Task, why: str) -> None:
        self._count_death(why)
        self._return(task, why, self._queue.lost)

    def _died_in_company(self, tasks: list[Task | None], why: str) -> None:
        self._count_death(why)
        for task in tasks:
            if task is not None:
                self._queue.lost_in_company(task)
                self._tell("unit_retried", unit=task.unit.key, parts=1)

    def _return(self, task: Task, why: str, back: Callable[[Task], bool]) -> None:
        """Put a unit whose actor is lost back into the queue, or give it up."""
        waiting = len(self._queue)
        if not back(task):
            self._tell("unit_retried", unit=task.unit.key, parts=len(self._queue) - waiting)
            return
        self._give_up(task.unit, why)
        (name,) = task.unit.ids
        self._tell("utterance_failed", unit=task.unit.key, id=name, code="crash", message=why)

    def _count_death(self, why: str) -> None:
        self._deaths += 1
        if self._deaths >= self._max_deaths:
            raise KdcacheError(
                f"{self._deaths} teacher actors in a row died without finishing a unit ({why}). "
                "Often a batch does not fit in memory: try a lower batch_seconds or fewer "
                "actors; the same command then resumes."
            )
