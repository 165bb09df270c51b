"""How large an attention decoder is."""

from __future__ import annotations

from pydantic import Field, model_validator

from kdcache.config import Settings


class DecoderSettings(Settings):
    """A transformer decoder over an encoder's frames."""

    width: int = Field(default=64, ge=8)
    """Width W of its states, even."""

    layers: int = Field(default=2, ge=1)
    """Blocks of attention to labels, attention to frames and feed-forward."""

    heads: int = Field(default=4, ge=1)
    """Attention heads; must divide ``width``."""

    feed_forward: int = Field(default=4, ge=1)
    """Feed-forward width as a multiple of ``width``."""

    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout of embeddings and of what each sublayer adds."""

    @model_validator(mode="after")
    def _divisible(self) -> DecoderSettings:
        if self.width % self.heads or self.width % 2:
            raise ValueError(
                f"should have width ({self.width}) even and a multiple of heads ({self.heads})"
            )
        return self
