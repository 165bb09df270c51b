"""What extractions tell of themselves in their events files: how far the last one is.

The files are kept for people and may be deleted. Nothing in a cache depends on them, so whatever
cannot be read is passed over: half a line that a crash has left, or a line of somebody else's.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from kdcache.inspect.text import format_bytes, format_count, format_duration, row
from kdcache.store.writer import RUNS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kdcache.store import Cache

SILENT = 180.0
"""Seconds without an event after which a run is taken for dead; it tells something every minute."""


@dataclass(frozen=True, slots=True)
class RunState:
    """How far a run is, by its own account.

    Attributes:
        file: its events.
        state: ``running``, ``complete``, ``incomplete``, ``stopped``, ``failed``, or ``lost`` where
            it has not said how it ended.
        at: Unix seconds of its last event.
        done, total, failed: utterances.
        speed: seconds of audio per second.
        bytes: that it has written.
        actors: that lived.
        seconds_left: as it was estimated; ``None`` where that could not be told.
        message: the error that ended it.
    """

    file: str
    state: str
    at: float
    done: int
    total: int
    failed: int
    speed: float
    bytes: int
    actors: int
    seconds_left: float | None
    message: str | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return asdict(self)


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """Events of a file in order; lines that are none, such as the half of one, are skipped.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        for line in file:
            event = _parsed(line)
            if event is not None:
                yield event


def last_run(cache: Cache, now: float | None = None) -> RunState | None:
    """The run that was begun last, of those whose events are in the cache's directory."""
    if cache.is_remote:
        return None
    files = sorted((cache.path / RUNS).glob("*.jsonl"), reverse=True)
    found = (state_of(file, now) for file in files)
    return next((state for state in found if state is not None), None)


def state_of(file: Path, now: float | None = None) -> RunState | None:
    """The last run of an events file; ``None`` where it tells of none.

    Args:
        file: of events.
        now: Unix seconds.
    """
    silent_since = datetime.now(UTC).timestamp() if now is None else now
    begun: dict[str, Any] = {}
    totals, last = begun, begun
    try:
        for event in read_events(file):
            last = event
            if event["event"] == "run_started":
                begun, totals = event, {}
            elif "run" in event:
                totals = event["run"]
        return _state(str(file), begun, last, totals, silent_since) if begun else None
    except (OSError, AttributeError, KeyError, TypeError, ValueError):
        return None


def run_lines(state: RunState) -> list[str]:
    """What ``kdcache status`` says of a run."""
    told = f"{state.done:,} of {format_count(state.total, 'utterance')}"
    parts = [f"{state.state}, {told}", f"{state.speed:.0f}× real time", format_bytes(state.bytes)]
    if state.state == "running":
        parts.append(format_count(state.actors, "actor"))
        if state.seconds_left is not None:
            parts.append(f"{format_duration(state.seconds_left / 3600)} left")
    if state.failed:
        parts.append(f"{state.failed:,} failed")
    lines = [row("last run", ", ".join(parts))]
    return [*lines, row("", state.message)] if state.message else lines


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    known = isinstance(event, dict) and isinstance(event.get("event"), str) and "time" in event
    return event if known else None


def _state(
    file: str, begun: dict[str, Any], last: dict[str, Any], totals: dict[str, Any], now: float
) -> RunState:
    at = datetime.fromisoformat(last["time"]).timestamp()
    ended = last["event"] == "run_ended"
    return RunState(
        file=file,
        state=last["outcome"] if ended else "running" if now - at <= SILENT else "lost",
        at=at,
        done=totals.get("done", 0),
        total=begun["utterances"],
        failed=totals.get("failed", 0),
        speed=totals.get("speed", 0.0),
        bytes=totals.get("bytes", 0),
        actors=totals.get("actors", 0),
        seconds_left=totals.get("seconds_left"),
        message=last.get("message") if ended else None,
    )
