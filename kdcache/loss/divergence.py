"""KL divergence between two categorical distributions given as log-probabilities.

Shapes: … any leading axes (nodes, frames, tokens), C classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from torch import Tensor


def class_kl(teacher_logp_C: Tensor, student_logp_C: Tensor) -> Tensor:
    """Σ_c q_c (log q_c − log p_c) over the last axis, in nats.

    A class with q_c = 0 (log −inf, or below what exp can tell from zero) contributes nothing,
    whatever p_c is. A class with q_c > 0 and p_c = 0 gives +inf, and NaN gives NaN: nothing is
    clamped. The gradient by log p_c is −q_c; none flows to the teacher.
    """
    kl: Tensor = _ClassKL.apply(teacher_logp_C.to(student_logp_C.dtype), student_logp_C)  # type: ignore[no-untyped-call]
    return kl


class _ClassKL(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, teacher_logp_C: Tensor, student_logp_C: Tensor) -> Tensor:
        q_C = teacher_logp_C.exp()
        ctx.save_for_backward(q_C)
        ratio_C = teacher_logp_C - student_logp_C
        return ratio_C.masked_fill_(q_C == 0, 0.0).mul_(q_C).sum(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
        (q_C,) = ctx.saved_tensors
        return None, q_C * -grad[..., None]
