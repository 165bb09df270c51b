"""Multi-head attention whose keys and values can be made once and kept.

The softmax is written out and not left to a fused kernel: those are chosen by shape and hardware,
so that an utterance's numbers would depend on its batch.

Shapes: B batch, Q queries, N keys, H heads, W width, M width of what is attended to, E = W/H.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

KeysValues = tuple["Tensor", "Tensor"]
"""Keys and values, (B, H, N, E) each."""


class Attention(nn.Module):
    """Scaled dot-product attention (Vaswani et al. 2017, arXiv 1706.03762, section 3.2).

    Args:
        width: W of queries and of the result.
        memory: M of what is attended to.
        heads: H, a divisor of ``width``.
    """

    def __init__(self, width: int, memory: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(memory, 2 * width)
        self.out = nn.Linear(width, width)

    def keys_values(self, memory_BNM: Tensor) -> KeysValues:
        """What can be kept of the rows to attend to."""
        keys_BNW, values_BNW = self.key_value(memory_BNM).chunk(2, dim=-1)
        return self._split(keys_BNW), self._split(values_BNW)

    def forward(self, x_BQW: Tensor, kept: KeysValues, seen: Tensor | None) -> Tensor:
        """What the queries find, (B, Q, W).

        Args:
            x_BQW: queries.
            kept: keys and values.
            seen: bool, broadcast to (B, H, Q, N): which rows a query may see, at least one;
                ``None`` for all.
        """
        keys_BHNE, values_BHNE = kept
        queries_BHQE = self._split(self.query(x_BQW)) * keys_BHNE.shape[-1] ** -0.5
        scores_BHQN = queries_BHQE @ keys_BHNE.transpose(-1, -2)
        if seen is not None:
            scores_BHQN = scores_BHQN.masked_fill(~seen, float("-inf"))
        wide = torch.promote_types(scores_BHQN.dtype, torch.float32)
        found_BHQE = scores_BHQN.softmax(-1, dtype=wide).to(values_BHNE.dtype) @ values_BHNE
        found: Tensor = self.out(found_BHQE.transpose(1, 2).flatten(2))
        return found

    def _split(self, x_BNW: Tensor) -> Tensor:
        batch, rows, width = x_BNW.shape
        return x_BNW.view(batch, rows, self.heads, width // self.heads).transpose(1, 2)
