"""From a cache or a corpus to batches, in an order that only seed and catalogue decide."""

from __future__ import annotations

from kdcache.stream.counters import StreamCounters
from kdcache.stream.lhotse_cuts import collate_cuts, stream_cuts
from kdcache.stream.opening import replay_caches, stream_cache, stream_corpus
from kdcache.stream.plan import EpochPlan, plan_epoch
from kdcache.stream.source import CacheSource, CorpusSource, Example, Source
from kdcache.stream.stream import Stream
from kdcache.stream.torch_dataset import TorchDataset
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
    "TorchDataset",
    "collate_cuts",
    "plan_epoch",
    "replay_caches",
    "stream_cache",
    "stream_corpus",
    "stream_cuts",
]
