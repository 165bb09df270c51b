"""The weight of a term that rises, or falls, as training goes.

With the divergence of a lattice at full weight from the first step some students never start to
hear; with little of it at first, and more as they learn, they do.
"""

from __future__ import annotations

from pydantic import Field

from kdcache.config import Settings


class Ramp(Settings):
    """A weight that goes in a straight line from an initial one to its own."""

    start: int = Field(default=0, ge=0)
    """Steps before it begins."""

    steps: int = Field(ge=1)
    """Steps that it takes."""

    initial: float = Field(default=0.0, ge=0)
    """The weight before it. While that is 0 the term is not computed, and metrics lack it."""

    def weight(self, final: float, step: int) -> float:
        """The weight at the step that is the first after ``step`` steps.

        Like a learning rate's warm-up it is on its way from the first step on, 1 ÷ ``steps`` of it.
        """
        done = min(max(step + 1 - self.start, 0) / self.steps, 1.0)
        return self.initial + (final - self.initial) * done
