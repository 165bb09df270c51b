"""Random small batches with everything that can vary in them varied."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Lattice:
    """Logits, labels and lengths of a batch; blank is class 0."""

    logits: Tensor
    labels: Tensor
    frames: Tensor
    lengths: Tensor

    @property
    def arguments(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.logits, self.labels, self.frames, self.lengths


def random_lattice(
    frames: list[int],
    lengths: list[int],
    vocab: int = 5,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> Lattice:
    generator = torch.Generator().manual_seed(seed)
    batch, columns = len(frames), max(lengths) + 1
    logits = torch.randn(batch, max(frames), columns, vocab, generator=generator).to(dtype)
    labels = torch.randint(1, vocab, (batch, columns - 1), generator=generator)
    return Lattice(2 * logits, labels, torch.tensor(frames), torch.tensor(lengths))
