"""From a cache or a corpus to batches, in an order that only seed and catalogue decide."""

from __future__ import annotations

from kdcache.stream.counters import StreamCounters
from kdcache.stream.opening import stream_cache, stream_corpus
from kdcache.stream.plan import EpochPlan, plan_epoch
from kdcache.stream.source import CacheSource, CorpusSource, Example, Source
from kdcache.stream.stream import Stream
from kdcache.stream.window import ShuffleQuality

__all__ = [
    "CacheSource",
    "CorpusSource",
    "EpochPlan",
    "Example",
    "ShuffleQuality",
    "Source",
    "Stream",
    "StreamCounters",
    "plan_epoch",
    "stream_cache",
    "stream_corpus",
]
