"""How large a SAN-M encoder with an attention decoder is."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from kdcache.config import Settings
from kdcache.network.decoder_settings import DecoderSettings
from kdcache.network.sharing import ShareSettings


class SanMSettings(Settings):
    """Sizes of encoder and decoder, and which of their layers share weights."""

    hidden: int = Field(default=64, ge=8)
    """Width D of the encoder, even."""

    layers: int = Field(default=6, ge=1)
    """Layers of the encoder that are run, whatever they share."""

    heads: int = Field(default=4, ge=1)
    """Attention heads of the encoder; must divide ``hidden``."""

    feed_forward: int = Field(default=4, ge=1)
    """Feed-forward width as a multiple of ``hidden``."""

    memory_kernel: int = Field(default=11, ge=1)
    """Frames that the memory of a layer reaches over, odd: as many before as after."""

    subsampling: Literal[2, 4, 8] = 4
    """Feature frames (of 10 ms) per encoder frame; the teacher may have others."""

    subsampling_channels: int = Field(default=16, ge=1)
    """Channels of the subsampling convolutions."""

    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout throughout the encoder."""

    decoder: DecoderSettings = DecoderSettings()
    """Sizes of the attention decoder, such as ``{width: 64, layers: 2}``."""

    share: ShareSettings = ShareSettings()
    """Layers with the same weights, such as ``{encoder: all, decoder: 2}``. It saves bytes, not
    operations."""

    @model_validator(mode="after")
    def _divisible(self) -> SanMSettings:
        if self.hidden % self.heads or self.hidden % 2:
            raise ValueError(
                f"should have hidden ({self.hidden}) even and a multiple of heads ({self.heads})"
            )
        if self.memory_kernel % 2 == 0:
            raise ValueError(f"should have an odd memory_kernel, got {self.memory_kernel}")
        return self
