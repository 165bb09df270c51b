"""Several jobs of a plan at once, each in a process of its own.

A job begins as soon as what it reads is there, in the plan's order. Those that want a Ray on this
machine wait for each other, since it has the CPUs of one.
"""

from __future__ import annotations

import os
import time
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

from kdcache.pipeline.apart import Apart, Errand

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcache.pipeline.run import Numbered, Outcome, Runner

GRACE = 30.0
"""Seconds for stages that are asked to end."""


def run_side_by_side(runner: Runner, jobs: Sequence[Numbered], at_once: int) -> list[Outcome]:
    """Run jobs, so many at once; their outcomes in the order of ``jobs``.

    Raises:
        KdcacheError: one of them failed. The others were stopped, and go on next time.
    """
    side = _SideBySide(runner, jobs, at_once)
    try:
        side.run()
    finally:
        side.stop()
    return [side.outcomes[one.job.name] for one in jobs]


class _SideBySide:
    """Jobs that wait, and those that run."""

    def __init__(self, runner: Runner, jobs: Sequence[Numbered], at_once: int) -> None:
        self.outcomes: dict[str, Outcome] = {}
        self._runner, self._waiting, self._at_once = runner, list(jobs), at_once
        self._threads = max((os.cpu_count() or 1) // at_once, 1)
        self._running: dict[Any, tuple[Numbered, Apart]] = {}

    def run(self) -> None:
        """Until none is left."""
        while self._begin_all():
            self._hear_all()

    def stop(self) -> None:
        """End whatever runs; what can has some time to keep what it is at, and is killed then."""
        for _, apart in self._running.values():
            apart.ask()
        end = time.monotonic() + GRACE
        for _, apart in self._running.values():
            apart.close(max(end - time.monotonic(), 0.0))
        self._running.clear()

    def _begin_all(self) -> bool:
        """Begin all jobs that can, or find that they are done; whether any is under way."""
        while len(self._running) < self._at_once and (one := self._next()) is not None:
            self._waiting.remove(one)
            self._begin(one)
        return bool(self._running)

    def _next(self) -> Numbered | None:
        """The first job that can begin."""
        return next((one for one in self._waiting if self._can_begin(one)), None)

    def _can_begin(self, one: Numbered) -> bool:
        if not self._runner.is_ready(one.job):
            return False
        under_ray = any(self._runner.wants_ray(other.job) for other, _ in self._running.values())
        return not (under_ray and self._runner.wants_ray(one.job))

    def _begin(self, one: Numbered) -> None:
        outcome = self._runner.begin(one)
        if outcome is not None:
            self.outcomes[one.job.name] = outcome
            return
        job, address = one.job, None
        settings = job.settings
        if self._runner.wants_ray(job):
            # It has that Ray for itself, and so as many threads as ever.
            self._runner.connect(job)
            address = _ray_address()
        else:
            settings = job.kind.beside_others(settings, self._threads)
        errand = Errand(job.kind, settings, self._runner.given(job), self._threads, address)
        apart = Apart(errand)
        self._running[apart.pipe] = one, apart

    def _hear_all(self) -> None:
        """Wait for news, and take in all; one that has failed costs no other its end."""
        failures = []
        for pipe in wait(list(self._running)):
            try:
                self._hear(pipe)
            except Exception as error:
                failures.append(error)
        if failures:
            raise failures[0]

    def _hear(self, pipe: Any) -> None:
        one, apart = self._running[pipe]
        facts = apart.hear()
        if facts is not None:
            del self._running[pipe]
            apart.close()
            self.outcomes[one.job.name] = self._runner.end(one, facts)


def _ray_address() -> str:
    """Of the Ray that this process has joined."""
    import ray

    address: str = ray.get_runtime_context().gcs_address
    return address
