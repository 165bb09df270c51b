"""Settings of how a run is measured while it goes: ``validation`` of a training configuration."""

from __future__ import annotations

from pydantic import Field, model_validator

from kdcache.config import ConfigLocation, ConfigPath, Settings


class ValidationSettings(Settings):
    """What a student is tried on now and then, and what follows from it."""

    cache: ConfigLocation | None = None
    """A cache, of the training cache's tokenizer: all terms of the loss are computed. Its audio is
    in it, or in ``corpus``."""

    corpus: ConfigPath | None = None
    """A manifest. Without a cache, the terms that need no teacher are computed."""

    every: int = Field(default=200, ge=1)
    """Steps between two; the last step has one as well."""

    decode: bool = True
    """Decode greedily, and count word errors."""

    metric: str = "wer"
    """What the best student has least of: ``wer``, ``loss`` or a term of it."""

    patience: int | None = Field(default=None, ge=1)
    """End the run after so many validations without an improvement. Left out: never."""

    min_delta: float = Field(default=0.0, ge=0)
    """By how much ``metric`` must fall to be an improvement, as far as patience goes."""

    @model_validator(mode="after")
    def _consistent(self) -> ValidationSettings:
        if self.cache is None and self.corpus is None:
            raise ValueError("should have `cache` or `corpus`")
        if self.metric == "wer" and not self.decode:
            raise ValueError("should have decode: true for metric: wer")
        return self
