"""Running statistics of batch norm, the same on any number of workers.

torch moves them after every forward pass, so that a worker would have seen its own micro-batches
alone, and two workers would have moved half as often as one. Here a step moves them once, by all
its n micro-batches, on whichever worker each of them was:

    running ← (1 − m)ⁿ · running + (1 − (1 − m)ⁿ) · mean over micro-batches

With one micro-batch a step it is torch's own rule; with more it is that rule applied n times, to
their mean. Statistics are of no effect on training itself, only on a student that is evaluated.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch.nn.modules.batchnorm import _BatchNorm

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

    from kdcache.train.world import World


class RunningStatistics:
    """The running statistics of a network, within one step after the other.

    Args:
        network: in training mode while a step lasts. Batch norms that average over all that they
            have ever seen (``momentum=None``) are left to torch, and those whose weights are
            frozen are left alone: they are in evaluation mode.
        world: who else has micro-batches of a step.
    """

    def __init__(self, network: nn.Module, world: World) -> None:
        self._world = world
        self._norms = [
            layer
            for layer in network.modules()
            if isinstance(layer, _BatchNorm)
            and layer.running_mean is not None
            and layer.momentum is not None
            and all(weight.requires_grad for weight in layer.parameters())
        ]
        self._forget()

    @contextmanager
    def step(self) -> Iterator[None]:
        """A step: at the end of the block the statistics have moved."""
        before = [value.clone() for value, _ in self._values()]
        counted = [count.clone() for count in self._counts()]
        self._forget()
        yield
        total = self._sum_over_workers()
        for (value, momentum), old, summed in zip(self._values(), before, self._sums, strict=True):
            kept = (1 - momentum) ** total
            mean = summed / (momentum * max(total, 1))
            value.copy_(kept * old + (1 - kept) * mean)
        for count, old in zip(self._counts(), counted, strict=True):
            count.copy_(old + total)

    @contextmanager
    def micro_batch(self) -> Iterator[None]:
        """A forward pass; from zero, the statistics move by ``momentum`` × the batch's own."""
        for value, _ in self._values():
            value.zero_()
        yield
        for summed, (value, _) in zip(self._sums, self._values(), strict=True):
            summed += value
        self._batches += 1

    def _forget(self) -> None:
        self._sums = [torch.zeros_like(value) for value, _ in self._values()]
        self._batches = 0

    def _sum_over_workers(self) -> int:
        """Micro-batches of all workers, whose statistics ``_sums`` then are."""
        if self._world.size == 1:
            return self._batches
        count = torch.tensor([float(self._batches)], device=self._world.device)
        flat = self._world.sum(torch.cat([count, *(value.flatten() for value in self._sums)]))
        sizes = [value.numel() for value in self._sums]
        parts = torch.split(flat[1:], sizes)
        self._sums = [part.view_as(s) for part, s in zip(parts, self._sums, strict=True)]
        return round(float(flat[0]))

    def _values(self) -> Iterator[tuple[Tensor, float]]:
        """Means and variances, each with its momentum."""
        for layer in self._norms:
            assert layer.running_mean is not None
            assert layer.running_var is not None
            assert layer.momentum is not None
            yield layer.running_mean, layer.momentum
            yield layer.running_var, layer.momentum

    def _counts(self) -> Iterator[Tensor]:
        """How many micro-batches each has seen."""
        for layer in self._norms:
            if layer.num_batches_tracked is not None:
                yield layer.num_batches_tracked
