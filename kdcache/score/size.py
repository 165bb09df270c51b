"""How sparse weights are, and what they take when zeros are not stored.

Each matrix is stored in the cheapest of three ways: all values; a bit a weight that says which
are not zero, and those; or, row by row, the column of each that is not zero (2 bytes, 4 where a
row is longer than 65,536), its value, and 4 bytes where the row begins. A tensor of one dimension
is stored whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class WeightSize:
    """Of a network.

    Attributes:
        sparsity: share of the weights of matrices that are exactly zero.
        sparse_bytes: of all weights, zeros of matrices left out and what says where they are
            counted.
    """

    sparsity: float
    sparse_bytes: int


def weight_size(network: nn.Module) -> WeightSize:
    """Measure a network's parameters, shared ones once."""
    zeros = weights = stored = 0
    for tensor in network.parameters():
        if tensor.ndim >= 2:
            zeros += int((tensor == 0).sum())
            weights += tensor.numel()
        stored += tensor_bytes(tensor)
    return WeightSize(zeros / weights if weights else 0.0, stored)


def tensor_bytes(tensor: Tensor) -> int:
    """Bytes of the cheapest way to store a tensor."""
    width, count = tensor.element_size(), tensor.numel()
    dense = count * width
    if tensor.ndim < 2 or not count:
        return dense
    kept = int((tensor != 0).sum())
    rows, columns = tensor.shape[0], count // tensor.shape[0]
    index = 2 if columns <= 1 << 16 else 4
    return min(dense, -(-count // 8) + kept * width, kept * (width + index) + 4 * (rows + 1))
