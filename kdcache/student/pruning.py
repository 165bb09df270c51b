"""Gradual magnitude pruning: the smallest weights become zero and stay so.

After every step that is due the smallest weights by magnitude are set to zero, as many as the
schedule says; what was zero before is smallest, so that no weight comes back. Between these steps
gradients of zeros are dropped, and what an optimiser's momentum or decay moved is put back.

Which weights are pruned follows from the weights alone: every worker, which has the same weights,
prunes the same ones, and a run that goes on from a checkpoint finds the zeros there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

    from kdcache.student.prune_settings import PruneSettings


def prunable(student: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that are pruned, by name: matrices and kernels over more than one channel.

    Left alone are biases and norms; kernels over one channel (depthwise ones, and the first of
    the subsampling), which are few and each of which is all that a channel has; heads that only
    training uses; and what is frozen.
    """
    return {
        name: parameter
        for name, parameter in student.named_parameters()
        if name.rpartition(".")[2].startswith("weight")
        and parameter.ndim >= 2
        and parameter.shape[1] > 1
        and not name.partition(".")[0].endswith("_head")
        and parameter.requires_grad
    }


class Pruner:
    """Prunes one student while it is trained.

    Args:
        student: as it is after ``step`` steps.
        settings: the schedule.
        step: optimiser steps done.
    """

    def __init__(self, student: nn.Module, settings: PruneSettings, step: int = 0) -> None:
        self._settings = settings
        self._weights = list(prunable(student).values())
        self._masks: list[Tensor] | None = None
        if any(settings.is_due(earlier) for earlier in range(1, step + 1)):
            self._masks = [weight != 0 for weight in self._weights]

    def drop_gradients(self) -> None:
        """Take the gradients of zeros away, so that they count neither for the norm nor later."""
        for weight, mask in self._masked():
            if weight.grad is not None:
                weight.grad.mul_(mask)

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Put zeros back and, where it is due, choose more.

        Args:
            step: optimiser steps done, this one included.
        """
        for weight, mask in self._masked():
            weight.mul_(mask)
        if not self._settings.is_due(step):
            return
        share = self._settings.sparsity_at(step)
        if self._settings.scope == "global":
            zero_smallest(self._weights, share)
        else:
            for weight in self._weights:
                zero_smallest([weight], share)
        self._masks = [weight != 0 for weight in self._weights]

    def _masked(self) -> Iterator[tuple[nn.Parameter, Tensor]]:
        """Weights with their masks; nothing before the first choice."""
        if self._masks is not None:
            yield from zip(self._weights, self._masks, strict=True)

    @property
    def sparsity(self) -> float:
        """Share of the prunable weights that are zero."""
        zeros = sum(int((weight == 0).sum()) for weight in self._weights)
        return zeros / sum(weight.numel() for weight in self._weights)


@torch.no_grad()
def zero_smallest(weights: list[nn.Parameter], share: float) -> None:
    """Set the smallest ``share`` of all these weights to zero; of equal ones the first."""
    magnitudes = torch.cat([weight.detach().abs().flatten() for weight in weights])
    count = round(share * magnitudes.numel())
    kept = torch.ones_like(magnitudes, dtype=torch.bool)
    kept[magnitudes.argsort(stable=True)[:count]] = False
    parts = torch.split(kept, [weight.numel() for weight in weights])
    for weight, part in zip(weights, parts, strict=True):
        weight.mul_(part.view_as(weight))
