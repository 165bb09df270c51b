"""SIGINT and SIGTERM: as a wish to stop that a loop looks at, or as the end of a command."""

from __future__ import annotations

import signal
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
def stop_signals() -> Iterator[Callable[[], int | None]]:
    """While the block runs, the first signal is noted and a second ends the program at once.

    Yields:
        A function that tells the number of the signal, or ``None`` while there was none.
        Outside the main thread, where Python takes no signals, it is always ``None``.
    """
    seen: list[int] = []
    before: dict[signal.Signals, Any] = {}

    def note(number: int, frame: Any) -> None:
        seen.append(number)
        signal.signal(number, signal.SIG_DFL)

    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield lambda: seen[0] if seen else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def termination_as_interrupt() -> Iterator[None]:
    """While the block runs, SIGTERM raises :class:`Stopped`, as ^C raises ``KeyboardInterrupt``:
    what was begun is ended. A handler that is there already stays, as does everything outside
    the main thread."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
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
    """What the block makes of signals counts for nothing: afterwards handlers are as before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # one that is not Python's cannot be set again
                signal.signal(number, handler)
