"""How far a long command is: a bar on a terminal, now and then a line elsewhere.

Progress goes to stderr, so that stdout stays clean for data. ``NO_COLOR`` is respected. A
log file or a cluster's job page gets plain lines, at most one in ``EVERY`` seconds, and one
at the end.
"""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Protocol

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

EVERY = 15.0
"""Seconds between two plain lines."""

RECENT = 300.0
"""Seconds that a bar's time left is estimated from: a unit of work may take a minute."""


class Progress(Protocol):
    """What a command tells while it works."""

    def update(self, done: float, total: float | None = None, note: str = "") -> None:
        """So much is done, of so much; the last total and note stand where none is given."""
        ...


@contextmanager
def progress(
    label: str, total: float | None = None, unit: str = "", *, log: bool = True
) -> Iterator[Progress]:
    """Show progress while the block runs.

    Args:
        label: what is being done, such as ``Verifying``.
        total: how much there is to do, where that is known already.
        unit: what is counted, such as ``shards``.
        log: tell a log file as well how it ends, not only a terminal.
    """
    if sys.stderr.isatty():
        with _BARS.open() as bar:
            task = bar.add_task(label, total=total, unit=unit, note="")
            yield _Bar(bar, task)
            _BARS.end(task)
    else:
        lines = _Lines(label, total, unit)
        yield lines
        if log:
            lines.finish()


class Stages:
    """Several things one after the other, of which it is not known beforehand which will come."""

    def __init__(self) -> None:
        self._open = ExitStack()
        self._label = ""
        self._shown: Progress | None = None

    def update(self, label: str, unit: str, done: float, total: float, note: str = "") -> None:
        """So much of ``label`` is done; what was shown before under another label is over."""
        if self._shown is None or label != self._label:
            self.close()
            self._shown = self._open.enter_context(progress(label, unit=unit))
            self._label = label
        self._shown.update(done, total, note)

    def close(self) -> None:
        """Whatever is shown is over."""
        self._shown = None
        self._open.close()


@contextmanager
def stages() -> Iterator[Stages]:
    """Show progress of one thing after another while the block runs."""
    shown = Stages()
    try:
        yield shown
    finally:
        shown.close()


def _bar() -> RichProgress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
        speed_estimate_period=RECENT,
    )


class _Bars:
    """The terminal's one place for bars, which all that are open at a time share."""

    def __init__(self) -> None:
        self._shown: RichProgress | None = None
        self._users = 0

    @contextmanager
    def open(self) -> Iterator[RichProgress]:
        """The place; what is in it stays on the screen when the last bar is over."""
        if self._shown is None:
            self._shown = _bar()
            self._shown.start()
        self._users += 1
        try:
            yield self._shown
        finally:
            self._users -= 1
            if not self._users:
                self._shown.stop()
                self._shown = None

    def end(self, task: TaskID) -> None:
        """Where others go on, a bar that is over makes room, and a line stays above them."""
        if self._shown is None or self._users == 1:
            return
        table = self._shown.make_tasks_table([t for t in self._shown.tasks if t.id == task])
        self._shown.console.print(table)
        self._shown.remove_task(task)


_BARS = _Bars()


class _Bar:
    """A bar of rich."""

    def __init__(self, bar: RichProgress, task: TaskID) -> None:
        self._bar, self._task, self._note = bar, task, ""

    def update(self, done: float, total: float | None = None, note: str = "") -> None:
        self._note = note or self._note
        self._bar.update(self._task, completed=done, total=total, note=self._note)


class _Lines:
    """Plain lines."""

    def __init__(
        self,
        label: str,
        total: float | None,
        unit: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._label, self._total, self._unit, self._clock = label, total, unit, clock
        self._done, self._note = 0.0, ""
        self._first: tuple[float, float] | None = None  # when it was told first, and how much
        self._shown = ""
        self._last = clock()

    def update(self, done: float, total: float | None = None, note: str = "") -> None:
        self._first = self._first or (self._clock(), done)
        self._done = done
        self._total = self._total if total is None else total
        self._note = note or self._note
        if self._clock() - self._last >= EVERY:
            self._show()

    def finish(self) -> None:
        """The last line, unless it was told already or there was nothing to tell."""
        if self._done and self._line() != self._shown:
            self._show()

    def _show(self) -> None:
        self._last = self._clock()
        self._shown = self._line()
        click.echo(self._shown, err=True)

    def _line(self) -> str:
        of_total = f" of {self._total:.12g}" if self._total is not None else ""
        count = " ".join(part for part in (f"{self._done:.12g}{of_total}", self._unit) if part)
        parts = [count, *self._speed(), self._note]
        return f"{self._label}: {', '.join(part for part in parts if part)}"

    def _speed(self) -> list[str]:
        """Rate and time left, once both can be told; what was done before this run is left out."""
        if self._first is None or self._done == self._total:
            return []
        seconds, done = self._clock() - self._first[0], self._done - self._first[1]
        if seconds <= 0 or done <= 0:
            return []
        rate = done / seconds
        left = [] if self._total is None else [f"{_span((self._total - self._done) / rate)} left"]
        return [f"{rate:.3g}/s", *left]


def _span(seconds: float) -> str:
    """A time as people say it: 42 s, 3 min, 5 h 20 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
