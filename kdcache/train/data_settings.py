"""Settings of what a run learns from: ``data`` of a training configuration."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from pydantic import Field, model_validator

from kdcache.config import ConfigLocation, ConfigPath, Settings
from kdcache.stream.opening import AHEAD_SHARDS, DISK_CACHE_BYTES


class ReplaySettings(Settings):
    """A cache that teaches from some step on."""

    cache: ConfigLocation
    """Its directory or URL."""

    from_step: int = Field(ge=1)
    """Steps that are done before the first one that reads it."""


class DataSettings(Settings):
    """What the student learns from: a cache, or a bare corpus where there is no teacher."""

    cache: ConfigLocation | None = None
    """The cache to stream from: its directory or URL."""

    replay: list[ReplaySettings] = Field(default=[])
    """Caches of the same utterances that take the place of ``cache`` in the course of training,
    such as ``[{cache: later, from_step: 400}]``: a teacher that was asked at several of its
    checkpoints teaches as it learnt."""

    corpus: ConfigPath | None = None
    """A manifest. With a cache: where its audio is joined from, by utterance id. Without
    one: what is trained on."""

    tokenizer: ConfigPath | None = None
    """Tokenizer directory or file; the cache's own if left out."""

    keep_in_memory: bool = False
    """Decode each utterance once and keep it, for small corpora."""

    on_damage: Literal["raise", "skip"] = "raise"
    """What becomes of an utterance whose cached bytes are not what was written: end the run, or
    go on without it; metrics and report count those."""

    on_other_text: Literal["raise", "keep"] = "raise"
    """What becomes of an utterance whose text in ``corpus`` is not the one that its teacher was
    conditioned on: end the run, or keep the cache's text."""

    window_shards: int | None = Field(default=None, ge=1)
    """Shards of the cache whose utterances are mixed at a time. Left out: all of them, and 64 where
    ``disk_cache`` is used."""

    disk_cache: ConfigPath | None = None
    """A local directory to which the shards of a cache in an object store are fetched, ahead of
    training. Workers, and runs, may share it. Of no effect for a cache in a directory."""

    disk_cache_bytes: int = Field(default=DISK_CACHE_BYTES, ge=1)
    """What ``disk_cache`` may hold; shards that were used longest ago are deleted."""

    ahead_shards: int = Field(default=AHEAD_SHARDS, ge=1)
    """Shards to fetch to ``disk_cache`` before they are needed."""

    @model_validator(mode="after")
    def _something(self) -> DataSettings:
        if self.cache is None and (self.corpus is None or self.tokenizer is None):
            raise ValueError("should have `cache`, or `corpus` and `tokenizer`")
        steps = [0, *(later.from_step for later in self.replay)]
        if any(a >= b for a, b in pairwise(steps)):
            raise ValueError(f"should have replay in order of from_step, got {steps[1:]}")
        if self.replay and (self.cache is None or self.disk_cache is not None):
            raise ValueError("should have `cache`, and no `disk_cache`, for `replay`")
        return self
