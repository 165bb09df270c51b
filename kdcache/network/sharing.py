"""Which layers of a stack have their weights in common.

A stack that shares holds each set of weights once, in memory and on disk, and runs it several
times (Universal Transformers, Dehghani et al. 2019, arXiv 1807.03819; ALBERT, Lan et al. 2020,
arXiv 1909.11942, section 3.1). That saves bytes and no operation.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from kdcache.config import Settings

Share = Literal["none", "all"] | Annotated[int, Field(ge=1)]
"""``none``, ``all``, or how many layers one after the other have the same weights."""


class ShareSettings(Settings):
    """Layers with the same weights; what is shared is stored once."""

    encoder: Share = "none"
    """Of the encoder: ``none``, ``all``, or a number of layers, one after the other."""

    decoder: Share = "none"
    """Of the decoder, likewise."""


def weights_of_layers(layers: int, share: Share) -> tuple[int, ...]:
    """Which set of weights each layer runs with: ``(0, 0, 1, 1, 2)`` of five layers in twos.

    Args:
        layers: how many are run.
        share: how many of them have the same weights.
    """
    if share == "all":
        return (0,) * layers
    group = 1 if share == "none" else share
    return tuple(layer // group for layer in range(layers))
