"""Where a run's metrics go: lines of JSON, and TensorBoard's event files where they are wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kdcache.train.board import Board
from kdcache.train.metrics import VALIDATION, append_metrics, drop_metrics_after, save_report

if TYPE_CHECKING:
    from kdcache.train.settings import TrainSettings

_PLACES = ("step", "epoch")
"""What says where a line belongs, and is no curve."""


class Recorder:
    """Records one worker's run; what it is told after ``step`` by an earlier start is forgotten.

    Args:
        settings: of the run.
        step: steps done.
        writes: whether this is the worker that writes; others only remember.

    Attributes:
        last: the last step's line; empty before the first step.
    """

    def __init__(self, settings: TrainSettings, step: int, *, writes: bool) -> None:
        self._out, self._writes = settings.out, writes
        self.last: dict[str, Any] = {}
        self._board = Board(self._out, step) if writes and settings.tensorboard else None
        if writes:
            drop_metrics_after(self._out, step)

    def step(self, values: dict[str, Any]) -> None:
        """A line of a step."""
        self.last = values
        if self._writes:
            append_metrics(self._out, values)
        self._draw("train", values)

    def validation(self, values: dict[str, Any]) -> None:
        """A line of a validation."""
        if self._writes:
            append_metrics(self._out, values, VALIDATION)
        self._draw("validation", values)

    def finish(self) -> None:
        """The run has ended."""
        if self._writes and self.last:
            save_report(self._out, self.last)
        if self._board is not None:
            self._board.close()

    def _draw(self, group: str, values: dict[str, Any]) -> None:
        if self._board is not None:
            curves = {name: value for name, value in values.items() if name not in _PLACES}
            self._board.add(group, values["step"], curves)
