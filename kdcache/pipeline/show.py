"""How a run tells what it is doing; the command line shows it, a test listens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


class Progress(Protocol):
    """A display of how far a stage is."""

    def update(self, done: float, total: float | None = None, note: str = "") -> None:
        """So much is done, of so much."""
        ...


class Show(Protocol):
    """Opens a display."""

    def __call__(
        self, label: str, total: float | None = None, unit: str = ""
    ) -> AbstractContextManager[Progress]:
        """Show what is being done, of how much in all, counted in what."""
        ...
