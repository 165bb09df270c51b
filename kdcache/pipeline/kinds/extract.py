"""``extract``: what `kdcache extract` does. Output: ``cache``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from kdcache.errors import ConfigError, IncompleteCacheError
from kdcache.extract import ExtractConfig, run_extract
from kdcache.inspect.summary import outline
from kdcache.pipeline.kind import StageKind
from kdcache.signals import Stopped
from kdcache.store import open_cache

if TYPE_CHECKING:
    from pathlib import Path

    from kdcache.pipeline.kind import Work

FREE: dict[str, Any] = {
    "actors": True,
    "cpus_per_actor": True,
    "gpus_per_actor": True,
    "decode_threads": True,
    "max_attempts": True,
    "storage_patience": True,
    "retry_failed": True,
    "ray": True,
    "cache": {"path"},
}
"""Settings that change how a cache is made, not what is in it."""


class ExtractKind(StageKind[ExtractConfig]):
    """An extraction, whose cache is in the stage's folder."""

    model = ExtractConfig

    def complete(self, values: dict[str, Any], place: Path) -> dict[str, Any]:
        """The cache's path, and as many actors as there are CPUs unless settings say otherwise.

        Raises:
            ConfigError: ``cache.path`` is given.
        """
        cache = values.get("cache") or {}
        if "path" in cache:
            raise ConfigError("`cache.path` is within the stage's own folder; leave it out.")
        cache = {**cache, "path": str(place / "cache")}
        return {"actors": os.cpu_count() or 1, **values, "cache": cache}

    def outputs(self, settings: ExtractConfig, place: Path) -> dict[str, Path]:
        """The cache."""
        return {"cache": place / "cache"}

    def decisive(self, settings: ExtractConfig) -> dict[str, Any]:
        """All but where and by how many it is done."""
        return settings.model_dump(mode="json", exclude=FREE, exclude_defaults=True)

    def cpus(self, settings: ExtractConfig, ray: bool) -> float | None:
        """Those of all actors."""
        if settings.ray.address is not None:
            return None
        actors = settings.actors if isinstance(settings.actors, int) else 1
        return actors * settings.cpus_per_actor

    def run(self, settings: ExtractConfig, work: Work) -> dict[str, Any]:
        """Extract, or go on.

        Raises:
            IncompleteCacheError: some utterances are not in the cache.
            Stopped: a signal came; what actors had in hand is in the cache.
        """
        with work.show(f"Extracting {work.name}", None, "utterances") as shown:
            report = run_extract(settings, lambda s: shown.update(s.done, s.total, s.note))
        if report.stopped_by is not None and report.left:
            left = f"Stopped with {len(report.left)} utterances left; the same command goes on."
            raise Stopped(report.stopped_by, left)
        if not report.complete:
            raise IncompleteCacheError(
                f"The cache {report.cache} lacks {report.absent} utterances; `kdcache status` "
                "tells why. The same command goes on."
            )
        summary = outline(open_cache(settings.cache.path))
        return {
            "utterances": summary.utterances,
            "hours": round(summary.hours, 4),
            "bytes": summary.bytes,
            "bytes_per_hour": summary.bytes_per_hour,
        }
