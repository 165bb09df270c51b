"""A run's metrics as TensorBoard's event files, where that is asked for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from kdcache.errors import MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FOLDER = "tensorboard"


class Board:
    """Writes an event file in ``<out>/tensorboard``, an event a step.

    Not by tensorboardX's ``SummaryWriter``: it hands events to a thread, and what that has not
    written is lost in a kill, whether flushed or not.

    Args:
        out: directory of the run.
        step: steps done; what an earlier start wrote of later ones is hidden.

    Raises:
        MissingDependencyError: tensorboardX is not installed.
    """

    def __init__(self, out: Path, step: int) -> None:
        check_board()
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import SessionLog

        (out / FOLDER).mkdir(parents=True, exist_ok=True)
        # A file is named by the second; one of an earlier start must not be written over.
        self._writer = EventsWriter(str(out / FOLDER / "events"), f".from-{step}")
        self._write(step + 1, session_log=SessionLog(status=SessionLog.START))

    def add(self, group: str, step: int, values: Mapping[str, float]) -> None:
        """A point on the curve of each value, under ``<group>/<name>``."""
        from tensorboardX.proto.summary_pb2 import Summary

        points = [
            Summary.Value(tag=f"{group}/{name}", simple_value=value)
            for name, value in values.items()
        ]
        self._write(step, summary=Summary(value=points))

    def close(self) -> None:
        """No more is to come."""
        self._writer.close()

    def _write(self, step: int, **what: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._writer.write_event(Event(wall_time=time.time(), step=step, **what))
        self._writer.flush()


def check_board() -> None:
    """Whether event files can be written.

    Raises:
        MissingDependencyError: they cannot.
    """
    try:
        import tensorboardX  # noqa: F401
    except ImportError:
        raise MissingDependencyError(
            "tensorboard: true needs the package tensorboardX, which is not installed; "
            "`pip install tensorboardX`, or leave it out: metrics.jsonl has the same numbers."
        ) from None
