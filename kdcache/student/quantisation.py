"""Training with rounded weights, so that a student gets used to them.

What is computed in a step is computed with weights as 8 bits hold them (``kdcache.student.
rounding``); gradients are taken there and applied to the weights that are not rounded, as if
rounding were not there: the straight-through estimator (Bengio et al. 2013, arXiv 1308.3432,
section 4; Jacob et al. 2018, arXiv 1712.05877, section 3). What a run writes are the weights that
are not rounded: packing rounds them to what was trained with.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from kdcache.student.rounding import is_rounded, rounded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from kdcache.student.quantise_settings import QuantiseSettings


def roundable(student: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that are rounded, by name: matrices and kernels, but no head of training's."""
    return {
        name: weight
        for name, weight in student.named_parameters()
        if is_rounded(name, weight.ndim) and not name.partition(".")[0].endswith("_head")
    }


class Rounding:
    """Rounds one student's weights for a while.

    Args:
        student: whose weights.
        settings: from when on.
    """

    def __init__(self, student: nn.Module, settings: QuantiseSettings) -> None:
        self._begin = settings.begin
        self._weights = list(roundable(student).values())

    @contextmanager
    def after(self, step: int) -> Iterator[None]:
        """Within the block weights are rounded, if ``step`` steps are enough; then as before."""
        if step < self._begin:
            yield
            return
        own = [weight.detach().clone() for weight in self._weights]
        with torch.no_grad():
            for weight in self._weights:
                weight.copy_(rounded(weight))
        try:
            yield
        finally:
            with torch.no_grad():
                for weight, before in zip(self._weights, own, strict=True):
                    weight.copy_(before)
