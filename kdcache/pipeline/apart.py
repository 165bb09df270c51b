"""A stage in a process of its own, so that several can run at once.

The process tells of its progress and its end over a pipe. It never outlives the process that
began it, nor does what it has begun itself: they are a process group, which ends as one when the
pipe's other end is gone, however that came. What it leaves is what a killed stage leaves.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from kdcache.errors import KdcacheError
from kdcache.session import ray_session
from kdcache.signals import SIGNALS, Stopped

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from multiprocessing.connection import Connection
    from multiprocessing.context import ForkServerContext

    from kdcache.config import Settings
    from kdcache.pipeline.kind import StageKind, Work
    from kdcache.pipeline.show import Progress

_TOLD = {code for number in SIGNALS for code in (-number, 128 + number)}
"""Exit codes of a process that a signal has asked to end."""

PATIENCE = 5.0
"""Seconds for a process to end that has told its end."""


@cache
def _context() -> ForkServerContext:
    """Not ``fork``: a parent with threads of arithmetic and of Ray cannot be copied. Not ``spawn``:
    every process would import torch anew."""
    context = multiprocessing.get_context("forkserver")
    # First of all the server turns deaf to ^C, which is for the one who began it.
    modules = ("deaf", "kinds.train", "kinds.score", "apart")
    context.set_forkserver_preload([f"kdcache.pipeline.{module}" for module in modules])
    return context


@dataclass(frozen=True, slots=True)
class Errand:
    """What a stage's process is sent out with.

    Attributes:
        kind: of the stage.
        settings: of the stage, for ``threads`` threads of arithmetic.
        work: what it is given to work with.
        threads: of arithmetic.
        ray_address: of a Ray that it joins; ``None`` where it needs none, or finds its own.
    """

    kind: StageKind[Any]
    settings: Settings
    work: Work
    threads: int
    ray_address: str | None


class Apart:
    """A stage that has begun in a process of its own.

    Args:
        errand: what it is to do; its displays are opened here.

    Attributes:
        pipe: readable when there is something to :meth:`hear`.
    """

    def __init__(self, errand: Errand) -> None:
        self._work = errand.work
        self._displays: dict[int, tuple[ExitStack, Progress]] = {}
        context = _context()
        self.pipe, theirs = context.Pipe()
        sent = replace(errand, work=replace(errand.work, show=_mute))
        # The server's environment is that of when it began; Ray's token came later, perhaps.
        arguments = (theirs, dict(os.environ), sent)
        self._process = context.Process(target=_run, args=arguments, name=self._work.name)
        self._process.start()
        theirs.close()

    def hear(self) -> dict[str, Any] | None:
        """Take what it tells; once it has ended, the figures that it returned.

        Raises:
            KdcacheError: what it raised; or its process was killed.
            RuntimeError: it has a defect; the traceback is in the note.
        """
        try:
            told, *values = self.pipe.recv()
        except (EOFError, OSError):
            self._process.join()
            raise KdcacheError(self._killed()) from None
        match told:
            case "open":
                self._open(*values)
            case "update":
                self._displays[values[0]][1].update(*values[1:])
            case "close":
                self._displays.pop(values[0])[0].close()
            case "failed":
                raise pickle.loads(values[0])
            case "broken":
                error = RuntimeError(f"The stage {self._work.name} has failed.")
                error.add_note(values[0])
                raise error
            case _:
                facts: dict[str, Any] = values[0]
                return facts
        return None

    def ask(self) -> None:
        """Ask the process to end. A training keeps the step that it is at, an extraction what its
        actors have in hand; all else ends at once, as whatever is killed."""
        self._process.terminate()

    def close(self, patience: float = PATIENCE) -> None:
        """Let a process end that has told its end, or was asked to end."""
        self._process.join(patience)
        self.stop()

    def stop(self) -> None:
        """End the process and all that it has begun, and whatever is shown of it."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid or 0, signal.SIGKILL)
        self._process.kill()  # where it is not the head of a group yet
        self._process.join()
        self.pipe.close()
        for stack, _ in self._displays.values():
            stack.close()
        self._displays.clear()

    def _open(self, number: int, *what: Any) -> None:
        stack = ExitStack()
        self._displays[number] = stack, stack.enter_context(self._work.show(*what))

    def _killed(self) -> str:
        code = self._process.exitcode or 0
        if code in _TOLD:
            return f"The stage {self._work.name} was told to stop. The same command goes on."
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        return (
            f"The process of the stage {self._work.name} {how}. Often memory was short: run fewer "
            "at once (--jobs). The same command goes on."
        )


def _mute(
    label: str, total: float | None = None, unit: str = ""
) -> AbstractContextManager[Progress]:
    """No display: what stands in the work on its way into the process."""
    raise AssertionError(f"nobody shows {label}")


def _run(pipe: Connection, environment: dict[str, str], errand: Errand) -> None:
    """Do a stage's work in this process, and tell how it ends."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.update(environment)
    threading.Thread(target=_end_with, args=(pipe,), daemon=True).start()
    import torch

    torch.set_num_threads(errand.threads)
    tell = _Tell(pipe)
    try:
        with ExitStack() as session:
            if errand.ray_address is not None:
                session.enter_context(ray_session(errand.ray_address, {}))
            work = replace(errand.work, show=tell.show)
            facts = errand.kind.run(errand.settings, work)
        tell("ended", facts)
    except Stopped as end:
        sys.exit(128 + end.number)
    except Exception as error:
        tell(*_failure(error))


def _failure(error: Exception) -> tuple[str, Any]:
    """What can be said in a sentence, as itself; a defect with its traceback."""
    cause = getattr(error, "cause", None)  # Ray's child of our error does not travel; ours does
    told = cause if isinstance(cause, KdcacheError) else error
    if isinstance(told, KdcacheError | OSError):
        # Not every error can be put together again; here it is known before anybody waits.
        with contextlib.suppress(Exception):
            packed = pickle.dumps(told)
            pickle.loads(packed)
            return "failed", packed
    return "broken", "".join(traceback.format_exception(error))


def _end_with(pipe: Connection) -> None:
    """Wait until the other end of the pipe, at which nobody speaks, is gone; then end."""
    try:
        pipe.recv()
    except (EOFError, OSError):
        os.killpg(0, signal.SIGKILL)


class _Tell:
    """Tells what happens at the other end of a pipe, from any thread."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._lock, self._opened = pipe, threading.Lock(), 0

    def __call__(self, *told: Any) -> None:
        with self._lock:
            self._pipe.send(told)

    @contextmanager
    def show(self, label: str, total: float | None = None, unit: str = "") -> Iterator[Progress]:
        """A display that is opened over there."""
        with self._lock:
            self._opened += 1
            number = self._opened
        self("open", number, label, total, unit)
        try:
            yield _Display(self, number)
        finally:
            self("close", number)


class _Display:
    """A display at the other end of the pipe."""

    def __init__(self, tell: _Tell, number: int) -> None:
        self._tell, self._number = tell, number

    def update(self, done: float, total: float | None = None, note: str = "") -> None:
        self._tell("update", self._number, done, total, note)
