"""A run's totals as metrics of Ray, which it offers to Prometheus beside its own.

They are the driver's, named ``ray_kdcache_…`` there, with the cache as their label. How busy GPUs
are, and what nodes and processes take, Ray itself says (``ray_node_gpus_utilization``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ray.util.metrics import Counter, Gauge

if TYPE_CHECKING:
    from kdcache.extract.tally import Snapshot

COUNTERS = {
    "done": ("kdcache_utterances", "Utterances that were committed or recorded as failed."),
    "audio_seconds": ("kdcache_audio_seconds", "Seconds of audio that went into the cache."),
    "bytes": ("kdcache_bytes", "Bytes of shards and catalogue parts of finished units."),
    "failed": ("kdcache_failures", "Utterances that were recorded as failed."),
    "halvings": ("kdcache_halvings", "Batches that were halved for want of device memory."),
}
"""By field of a snapshot: name and description."""

GAUGES = {
    "actors": ("kdcache_actors", "Teacher actors that live."),
    "total": ("kdcache_utterances_planned", "Utterances that the run set out to do."),
}
"""The same, of what may also fall."""


class RunMetrics:
    """Passes a run's totals on to Ray, which must be connected.

    Args:
        cache: where it is: the label of every value.
    """

    def __init__(self, cache: str) -> None:
        self._label = {"cache": cache}
        self._known: dict[str, float] = dict.fromkeys(COUNTERS, 0.0)
        self._counters = _made(Counter, COUNTERS)
        self._gauges = _made(Gauge, GAUGES)

    def update(self, now: Snapshot) -> None:
        """Tell what has changed since the last time."""
        for name, counter in self._counters.items():
            value = float(getattr(now, name))
            if value > self._known[name]:
                counter.inc(value - self._known[name], tags=self._label)
                self._known[name] = value
        for name, gauge in self._gauges.items():
            gauge.set(getattr(now, name), tags=self._label)


def _made(kind: Any, named: dict[str, tuple[str, str]]) -> dict[str, Any]:
    return {
        field: kind(name, description=text, tag_keys=("cache",))
        for field, (name, text) in named.items()
    }
