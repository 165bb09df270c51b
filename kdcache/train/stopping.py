"""A wish to stop, told to the workers of a run.

A preempted job is told some time before its end. The driver hears that; the first worker finds it
out between two steps, tells the others in a sum that they make anyway, and all of them write the
checkpoint of the step that they have done. A file in the run's directory carries the wish: that
is the one place which driver and workers share, whatever Ray is doing.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from kdcache.signals import Stopped
from kdcache.train.checkpoint import list_checkpoints

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kdcache.train.settings import TrainSettings

_PAUSE = 1.0
"""Seconds between two looks at the directory, or at the signals."""


def stop_file(out: Path, launch: str) -> Path:
    """What the workers of one launch of a run look for."""
    return out / f".stop-{launch}"


class WishToStop:
    """Whether a file is there; looked up once a second at most.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._looked = path, -_PAUSE

    def __call__(self) -> bool:
        """Whether to stop; where it was looked up a moment ago, not yet."""
        now = time.monotonic()
        if now - self._looked < _PAUSE:
            return False
        self._looked = now
        # Network file systems remember for up to a minute that there was no such file; a
        # directory that is opened anew they ask for.
        return self._path in self._path.parent.iterdir()


def run_until_told(
    work: Callable[[], object], stopped: Callable[[], int | None], path: Path
) -> None:
    """Run ``work`` in a thread, where Ray has no handlers of its own; a signal writes ``path``.

    Args:
        work: ends by itself, soon after the file is there.
        stopped: see ``kdcache.signals.stop_signals``.
        path: of the file.

    Raises:
        Exception: whatever ``work`` raised.
    """
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, name="kdcache-train", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(_PAUSE)
        if stopped() is not None and not path.exists():
            path.touch()
    if failures:
        raise failures[0]


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
