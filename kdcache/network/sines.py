"""Positions as sines, which have no length that they end at.

Shapes: L places, W width.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def sines(places_L: Tensor, width: int) -> Tensor:
    """Sines and cosines of each place, float32 (L, W) (Vaswani et al. 2017, section 3.5).

    Args:
        places_L: numbers of the places, from 0.
        width: W, even.
    """
    rates = torch.exp(
        torch.arange(0, width, 2, device=places_L.device) * (-math.log(10_000.0) / width)
    )
    angles = places_L[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
