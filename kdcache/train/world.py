"""What the workers of a run say to each other: sums, of gradients and of what is counted.

Gradients are summed once a step over all workers, whatever number of micro-batches each of
them had; the last step of an epoch may leave some with none, which a gradient hook that
counts backward passes could not bear.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, distributed, nn

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class World:
    """This worker's place among all.

    Attributes:
        rank, size: which worker of how many.
        device: where it computes.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_first(self) -> bool:
        """Whether this worker writes checkpoints and metrics."""
        return self.rank == 0

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its sum over workers, in one message.

        What no worker has a gradient of keeps none, as with one worker: an optimiser lets it be,
        and decays what has a gradient of zero.
        """
        if self.size == 1:
            return
        trained = [p for p in parameters if p.requires_grad]
        grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in trained]
        had = torch.tensor([float(p.grad is not None) for p in trained], device=self.device)
        flat = torch.cat([*(grad.reshape(-1) for grad in grads), had])
        distributed.all_reduce(flat)
        *parts, had = torch.split(flat, [*(grad.numel() for grad in grads), len(trained)])
        for parameter, part, count in zip(trained, parts, had.tolist(), strict=True):
            parameter.grad = part.view_as(parameter) if count else None

    def sum(self, values: Tensor) -> Tensor:
        """Sum of a tensor over workers, in its place."""
        if self.size > 1:
            distributed.all_reduce(values)
        return values

    def largest(self, value: float) -> float:
        """The largest of all workers' values, each a float32."""
        if self.size == 1:
            return value
        places = torch.zeros(self.size, device=self.device)
        places[self.rank] = value
        return float(self.sum(places).max())

    def barrier(self) -> None:
        """Wait for every worker."""
        if self.size > 1:
            distributed.barrier()
