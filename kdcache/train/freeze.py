"""Parts of a student that training leaves as they are, to the last bit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdcache.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcache.student import Student


class Frozen:
    """Keeps parts of a student from learning.

    Their weights ask for no gradient, so that no optimiser has them; and they are in evaluation
    mode, so that no statistics move and what they compute is what they will compute.

    Args:
        student: its weights are told here whether they are trained.
        names: of its parts.

    Raises:
        ConfigError: it has no part of such a name, or nothing is left to train.
    """

    def __init__(self, student: Student, names: Sequence[str]) -> None:
        self._student = student
        parts = student.parts()
        for name in names:
            if name not in parts:
                raise ConfigError(
                    f"The student has no {name} to freeze; it has {', '.join(parts)}. Take it out "
                    "of `freeze`, or start from a student that has it."
                )
        self._parts = [parts[name] for name in names]
        for part in self._parts:
            part.requires_grad_(False)
        if not any(weight.requires_grad for weight in student.parameters()):
            raise ConfigError(
                "All parts of the student are frozen, so that there is nothing to train; take one "
                "out of `freeze`."
            )

    def train_the_rest(self) -> None:
        """Bring the student into training mode, but for what is frozen."""
        self._student.train()
        for part in self._parts:
            part.eval()
