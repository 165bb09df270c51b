"""A wish to stop, told to the workers of a run.

A preempted job is told some time before its end. The driver hears that; the first worker finds it
out between two steps, tells the others in a sum that they make anyway, and all of them write the
checkpoint of the step that they have done.

A file in the run's directory, which driver and workers share whatever Ray is doing, is there while
workers train. The driver deletes it; that is the wish. Where it never was there, nobody has done
a step yet, and there is nothing to wait for.
"""

from __future__ import annotations

import contextlib
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kdcache.signals import Stopped
from kdcache.train.checkpoint import list_checkpoints

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from kdcache.train.settings import TrainSettings

STOPPING = "Stopping after this step; a second signal ends at once."
"""What is told when the first signal comes."""

PATIENCE = 600.0
"""Seconds for workers to end their step, with a validation and a checkpoint; then they hang."""

LOOK = 2.0
"""Seconds between two looks of a worker at the directory."""

_BEAT = 0.2
"""Seconds between two looks of the driver for signals."""


def training_file(out: Path, launch: str) -> Path:
    """What is there while the workers of one launch of a run train."""
    return out / f".training-{launch}"


def is_there(path: Path) -> bool:
    """Whether a file or directory exists, on network file systems too: these remember for up to a
    minute what a name stood for, and ask anew for a directory that is opened."""
    return path in path.parent.iterdir()


class Told:
    """Asked after each step, whether the workers of a launch are to stop.

    Args:
        file: see :func:`training_file`; written when it is asked for the first time.
    """

    def __init__(self, file: Path) -> None:
        self._file, self._written, self._looked = file, False, time.monotonic()

    def __call__(self) -> bool:
        """Whether to stop. It is looked up every two seconds; a file system that cannot tell has
        told nothing."""
        with contextlib.suppress(OSError):
            if not self._written:
                self._file.touch()
                self._written = True
            elif time.monotonic() - self._looked >= LOOK:
                self._looked = time.monotonic()
                return not is_there(self._file)
        return False


@contextmanager
def workers_told(
    stopped: Callable[[], int | None], file: Path, give_up: Callable[[], None]
) -> Iterator[None]:
    """While the block waits for workers, tell them of a signal, from a thread.

    Args:
        stopped: see ``kdcache.signals.stop_signals``.
        file: see :func:`training_file`; workers end soon after it is gone.
        give_up: ends the block, as soon as it can be ended; called again and again once a signal
            came while nobody trains, or once those who do have not answered for ``PATIENCE``.
    """
    ended = threading.Event()

    def watch() -> None:
        end: float | None = None
        while not ended.wait(_BEAT):
            if stopped() is None:
                continue
            with contextlib.suppress(OSError):
                if end is None:
                    end = time.monotonic() + (PATIENCE if is_there(file) else 0.0)
                file.unlink(missing_ok=True)  # again and again: workers may have been started anew
            if end is not None and time.monotonic() > end:
                give_up()

    thread = threading.Thread(target=watch, name="kdcache-tell", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def stopped_early(settings: TrainSettings, number: int) -> Stopped:
    """What to raise where a run has not ended because a signal came."""
    checkpoints = list_checkpoints(settings.out)
    done = checkpoints[-1].step if checkpoints else 0
    return Stopped(
        number,
        f"Stopped after step {done} of {settings.optim.steps}, which {settings.out} holds; the "
        "same command goes on.",
    )


def never() -> bool:
    """No wish to stop."""
    return False
