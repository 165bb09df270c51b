"""A run's metrics as TensorBoard's event files, where that is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdcache.errors import MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FOLDER = "tensorboard"


class Board:
    """Writes event files to ``<out>/tensorboard``.

    Args:
        out: directory of the run.
        step: steps done; what an earlier start wrote of later ones is hidden.

    Raises:
        MissingDependencyError: tensorboardX is not installed.
    """

    def __init__(self, out: Path, step: int) -> None:
        check_board()
        from tensorboardX import SummaryWriter

        # A file is named by the second; one of an earlier start must not be written over.
        self._writer = SummaryWriter(
            str(out / FOLDER), purge_step=step + 1, flush_secs=10, filename_suffix=f".from-{step}"
        )

    def add(self, group: str, step: int, values: Mapping[str, float]) -> None:
        """A point on the curve of each value, under ``<group>/<name>``."""
        for name, value in values.items():
            self._writer.add_scalar(f"{group}/{name}", value, step)

    def flush(self) -> None:
        """Write what is waiting."""
        self._writer.flush()

    def close(self) -> None:
        """Write what is waiting, and end."""
        self._writer.close()


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
