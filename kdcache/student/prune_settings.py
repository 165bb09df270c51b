"""How a student is pruned while it is trained."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from kdcache.config import Settings


class PruneSettings(Settings):
    """Gradual magnitude pruning of the network's matrices; see ``kdcache.student.pruning``."""

    sparsity: float = Field(gt=0, lt=1)
    """Share of weights that are zero in the end."""

    begin: int = Field(default=0, ge=0)
    """Optimiser steps before the first weight is taken."""

    end: int = Field(ge=1)
    """The step after which ``sparsity`` is reached; what is trained after it recovers."""

    every: int = Field(default=20, ge=1)
    """Steps from one choice of weights to the next."""

    scope: Literal["layer", "global"] = "layer"
    """Whether each matrix loses the same share of its weights, or magnitudes are compared over all
    matrices."""

    @model_validator(mode="after")
    def _in_order(self) -> PruneSettings:
        if self.end <= self.begin:
            raise ValueError(f"should have end ({self.end}) after begin ({self.begin})")
        return self

    def sparsity_at(self, step: int) -> float:
        """The share that is zero after ``step`` steps.

            s_t = s_f · (1 − (1 − (t − begin) ÷ (end − begin))³)

        (Zhu and Gupta 2017, arXiv 1710.01878, equation 1, from s_i = 0; what arXiv 2011.06110
        calls gradual pruning.) Most is taken early, while there is much that is not needed.
        """
        passed = (step - self.begin) / (self.end - self.begin)
        return self.sparsity * (1.0 - (1.0 - min(max(passed, 0.0), 1.0)) ** 3)

    def is_due(self, step: int) -> bool:
        """Whether weights are chosen after ``step`` steps."""
        regular = self.begin <= step < self.end and (step - self.begin) % self.every == 0
        return regular or step == self.end
