"""AdamW, and its learning rate step by step."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import nn

    from kdcache.train.settings import OptimSettings


def learning_rate(step: int, optim: OptimSettings) -> float:
    """Learning rate of the step after ``step`` steps: linear warm-up, then cosine decay."""
    if step < optim.warmup:
        return optim.learning_rate * (step + 1) / optim.warmup
    left = (step - optim.warmup) / max(optim.steps - optim.warmup, 1)
    cosine = 0.5 * (1 + math.cos(math.pi * min(left, 1.0)))
    return optim.learning_rate * (optim.final_fraction + (1 - optim.final_fraction) * cosine)


def build_optimizer(student: nn.Module, optim: OptimSettings) -> torch.optim.AdamW:
    """AdamW of what is trained; biases, norms and other vectors are not decayed."""
    trained = [p for p in student.parameters() if p.requires_grad]
    decayed = [p for p in trained if p.ndim >= 2]
    free = [p for p in trained if p.ndim < 2]
    groups = [
        {"params": decayed, "weight_decay": optim.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=optim.learning_rate, betas=(0.9, 0.98))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The learning rate of the next step."""
    for group in optimizer.param_groups:
        group["lr"] = rate
