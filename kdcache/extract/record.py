"""One place that is told what happens in a run, and tells all who want to know: the progress
display, the events file and Ray's metrics."""

from __future__ import annotations

import os
import secrets
import socket
from typing import TYPE_CHECKING, Any

from kdcache.version import __version__

if TYPE_CHECKING:
    from kdcache.extract.cluster import Crew
    from kdcache.extract.driver import Preparation
    from kdcache.extract.events import EventLog
    from kdcache.extract.metrics import RunMetrics
    from kdcache.extract.pool import Done
    from kdcache.extract.tally import Tally

BEAT = 60.0
"""Seconds between two events that only say how far the run is."""

_WITH_TOTALS = ("unit_done", "progress", "run_ended")


class Record:
    """What is known of a run while it goes.

    Args:
        tally: counts, and shows.
        log: of events.
        metrics: of Ray.
    """

    def __init__(self, tally: Tally, log: EventLog, metrics: RunMetrics) -> None:
        self._tally, self._log, self._metrics = tally, log, metrics
        self._last_beat = tally.clock()

    def begin(self, ready: Preparation, crew: Crew) -> None:
        """The run starts."""
        self._log(
            "run_started",
            run=secrets.token_hex(8),
            kdcache=__version__,
            host=socket.gethostname(),
            process=os.getpid(),
            cache=ready.writer.location,
            utterances=ready.plan.missing,
            units=len(ready.plan.units),
            present=ready.plan.present,
            failed_before=ready.plan.failed,
            actors=crew.actors,
            cpus=crew.cpus,
            gpus=crew.gpus,
            device=crew.device,
        )

    def tell(self, event: str, /, **about: Any) -> None:
        """Something has happened; see ``kdcache.extract.events``."""
        if event.startswith("actor_"):
            self._tally.actors = about["actors"]
        totals = {"run": self._tally.snapshot().to_dict()} if event in _WITH_TOTALS else {}
        self._log(event, **about, **totals)

    def add(self, done: Done) -> None:
        """A unit is finished."""
        self._tally.add(done)

    def add_given_up(self) -> None:
        """An utterance that no actor survives is recorded."""
        self._tally.add_given_up()

    def show(self) -> None:
        """Time has passed."""
        self._tally.show()
        self._metrics.update(self._tally.snapshot())
        if self._tally.clock() - self._last_beat >= BEAT:
            self._last_beat = self._tally.clock()
            self.tell("progress")

    def end(self, outcome: str, message: str | None = None) -> None:
        """The run is over."""
        self._metrics.update(self._tally.snapshot())
        self.tell("run_ended", outcome=outcome, message=message)
        self._log.close()
