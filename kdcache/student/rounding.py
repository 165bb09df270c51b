"""Weights as 8-bit integers, a scale a channel.

    q = round(w ÷ s),   s = max |w| of the channel ÷ 127,   w ≈ q · s

(symmetric, by output channel: Jacob et al. 2018, arXiv 1712.05877, section 3, with zero point 0;
Krishnamoorthi 2018, arXiv 1806.08342, section 3.1.) An error is at most s ÷ 2 a weight, and zero
stays zero, so that what was pruned stays pruned. A channel is a row of the first axis: an output
of a linear layer or convolution, a class of an embedding.

Shapes: R rows, C the other axes together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import Tensor

LARGEST = 127
"""Magnitude of the largest integer; −128 is not used, so that signs are alike."""


def is_rounded(name: str, ndim: int) -> bool:
    """Whether a weight is rounded, by its name: matrices and kernels, and no biases or norms."""
    return ndim >= 2 and name.rpartition(".")[2].startswith("weight")


def to_integers(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int8 of the same shape, and a float32 scale (R,) a row; 0 where a row is all zeros.

    Args:
        weight: float32, finite, at least two axes.
    """
    rows_RC = weight.reshape(len(weight), -1)
    scales_R = (np.abs(rows_RC).max(axis=1, initial=0.0) / np.float32(LARGEST)).astype(np.float32)
    # A scale too small to divide by is that of a row of nothing.
    safe_R = np.where(scales_R > np.finfo(np.float32).tiny, scales_R, np.inf).astype(np.float32)
    scales_R[np.isinf(safe_R)] = 0.0
    integers_RC = np.rint(rows_RC / safe_R[:, None]).clip(-LARGEST, LARGEST).astype(np.int8)
    return integers_RC.reshape(weight.shape), scales_R


def to_weights(integers: np.ndarray, scales_R: np.ndarray) -> np.ndarray:
    """float32 weights of integers and scales."""
    rows_RC = integers.reshape(len(integers), -1).astype(np.float32) * scales_R[:, None]
    weights: np.ndarray = rows_RC.reshape(integers.shape)
    return weights


def rounded(weight: Tensor) -> Tensor:
    """What is left of a weight after the way to integers and back, to the last bit.

    Args:
        weight: float32, at least two axes.
    """
    values = weight.detach().cpu().numpy()
    return torch.from_numpy(to_weights(*to_integers(values))).to(weight.device)
