"""A run's events file: what happens, one JSON object a line, for programs.

Every line has ``time`` (UTC) and ``event``; the other keys depend on it:

    run_started        run, kdcache, host, process, cache, utterances, units, present,
                       failed_before, actors, cpus, gpus, device: what it sets out to do, with what
    actor_started      actors: how many live now
    actor_lost         actors, units, with_node, why: the units that it had are tried again
    actor_released     actors: the cluster has shrunk
    unit_done          unit, packed, failed, bytes, audio_seconds, unit_seconds, halvings
    unit_retried       unit, parts: 2 where it was split to find the utterance that is to blame
    batch_halved       unit, halvings
    utterance_failed   unit, id, code, message
    storage_refused    unit, code, message: after ``storage_patience`` of an actor's own attempts
    progress           every minute
    run_ended          outcome (``complete``, ``incomplete``, ``stopped`` or ``failed``), message

``unit_done``, ``progress`` and ``run_ended`` have ``run`` besides: the totals of
:class:`~kdcache.extract.tally.Snapshot`. A line is written at once, so that a crash leaves at most
half of the last one, which readers skip (:func:`kdcache.inspect.runs.read_events`). A file that
cannot be written any more costs the run nothing but the events.
"""

from __future__ import annotations

import json
import os
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from kdcache.errors import ConfigError
from kdcache.store.places import open_storage
from kdcache.store.writer import RUNS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kdcache.extract.config import ExtractConfig


class Tell(Protocol):
    """Whoever is told what happens."""

    def __call__(self, event: str, /, **about: Any) -> None:
        """Something has happened."""
        ...


def _now() -> datetime:
    return datetime.now(UTC)


class EventLog:
    """Appends events to a file.

    Args:
        path: of the file, which is created, or gone on with; ``None`` keeps no events.
        now: the time of day.

    Raises:
        ConfigError: the file cannot be opened.
    """

    def __init__(self, path: Path | None, now: Callable[[], datetime] = _now) -> None:
        self._now = now
        self._file: int | None = None
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
            self._end_half_a_line()
        except OSError as error:
            raise ConfigError(
                f"events cannot be written to {path}: {error.strerror}; name another file with "
                "--set events=FILE"
            ) from error

    def __call__(self, event: str, /, **about: Any) -> None:
        """Write a line."""
        if self._file is None:
            return
        time = self._now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = json.dumps({"time": time, "event": event, **about}, ensure_ascii=False)
        try:
            os.write(self._file, f"{line}\n".encode())
        except OSError:
            self.close()

    def close(self) -> None:
        """No more events."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _end_half_a_line(self) -> None:
        """Go on below what a crash has left of a line."""
        assert self._file is not None
        size = os.fstat(self._file).st_size
        if size and os.pread(self._file, 1, size - 1) != b"\n":
            os.write(self._file, b"\n")


def open_log(config: ExtractConfig) -> EventLog:
    """The events file of a run that begins now.

    The one of the settings; else a new one in the folder of the cache, where it lies in a
    directory. That one is a convenience, and where it cannot be written there is none.
    """
    if config.events is not None:
        return EventLog(config.events)
    folder = open_storage(config.cache.path).folder
    if folder is None:
        return EventLog(None)
    name = f"{_now():%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}.jsonl"
    try:
        return EventLog(folder / RUNS / name)
    except ConfigError:
        return EventLog(None)
