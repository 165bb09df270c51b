"""SIGINT and SIGTERM: as a wish to stop that a loop looks at, or as the end of a command."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """A signal has ended what was running, in good order. Nobody who catches errors catches it.

    Args:
        number: of the signal.
        message: the sentence to show.
    """

    def __init__(self, number: int, message: str) -> None:
        super().__init__(number, message)

    @property
    def number(self) -> int:
        """Of the signal."""
        return int(self.args[0])

    @property
    def message(self) -> str:
        """The sentence to show."""
        return str(self.args[1])


@contextmanager
def stop_signals(words: str = "") -> Iterator[Callable[[], int | None]]:
    """While the block runs, the first signal is noted and a second ends the program at once.

    A signal that is ignored, as ^C is by a shell's background jobs, stays so.

    Args:
        words: told on stderr when the first signal comes.

    Yields:
        A function that tells the number of the signal, or ``None`` while there was none.
        Outside the main thread, where Python takes no signals, it is always ``None``.
    """
    seen: list[int] = []
    before: dict[signal.Signals, Any] = {}

    def note(number: int, frame: Any) -> None:
        seen.append(number)
        for each in before:
            signal.signal(each, signal.SIG_DFL)
        if words:
            _tell(words)

    if _in_main_thread():
        before = {number: signal.getsignal(number) for number in SIGNALS}
        before = {n: handler for n, handler in before.items() if handler is not signal.SIG_IGN}
        for number in before:
            signal.signal(number, note)
    try:
        yield lambda: seen[0] if seen else None
    finally:
        _restore(before)


@contextmanager
def termination_as_interrupt() -> Iterator[None]:
    """While the block runs, SIGTERM raises :class:`Stopped`, as ^C raises ``KeyboardInterrupt``:
    what was begun is ended. A handler that is there already stays, as does everything outside
    the main thread."""
    if not _in_main_thread() or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def stop(number: int, frame: Any) -> None:
        raise Stopped(number, "Terminated.")

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def handlers_kept() -> Iterator[None]:
    """What the block makes of signals counts for nothing: afterwards handlers are as before.

    Nothing is kept outside the main thread, where Python sets no handlers.
    """
    before: dict[signal.Signals, Any] = {}
    if _in_main_thread():
        before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        _restore(before)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _restore(handlers: dict[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        if handler is not None:  # one that is not Python's cannot be set again
            signal.signal(number, handler)


def _tell(words: str) -> None:
    """A line on stderr, from within a handler: whoever else was writing there is not waited for."""
    with contextlib.suppress(OSError, ValueError):
        os.write(sys.stderr.fileno(), f"\n{words}\n".encode())
