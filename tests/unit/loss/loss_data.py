"""Random small batches of students, teachers and labels; blank is class 0.

Shapes as in ``kdcache.loss``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from kdcache.loss import collapse_lattice

if TYPE_CHECKING:
    from torch import Tensor

    from kdcache.batch import LatticeBatch


@dataclass(frozen=True)
class Case:
    """Logits of a student and a teacher over the same padded lattice."""

    student: Tensor
    teacher: Tensor
    labels: Tensor
    frames: Tensor
    lengths: Tensor

    def target(self, top_k: int = 0) -> LatticeBatch:
        return collapse_lattice(self.teacher, self.labels, self.frames, self.lengths, 0, top_k)


def random_case(
    frames: list[int],
    lengths: list[int],
    vocab: int = 6,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> Case:
    generator = torch.Generator().manual_seed(seed)
    shape = (len(frames), max(frames), max(lengths) + 1, vocab)
    student, teacher = (
        2 * torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for _ in "st"
    )
    labels = torch.randint(1, vocab, (shape[0], shape[2] - 1), generator=generator)
    return Case(student, teacher, labels, torch.tensor(frames), torch.tensor(lengths))


def gradient(loss: Tensor, leaf: Tensor) -> Tensor:
    """The gradient of a loss's sum."""
    (grad,) = torch.autograd.grad(loss.sum(), leaf)
    return grad
