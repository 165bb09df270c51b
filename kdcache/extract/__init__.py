"""Extraction: Ray actors run a teacher over a corpus and commit what is kept, shard by shard.

    from kdcache.config import load_config
    from kdcache.extract import ExtractConfig, run_extract
    report = run_extract(load_config("extract.yaml", ExtractConfig))

- ``intake``: manifests → corpus, and what of them is none
- ``plan``: corpus → units → batches, a pure function of what is missing
- ``worker``: unit → packed utterances and failures, with a teacher and without Ray
- ``goals``, ``candidates``, ``measure``, ``choose``: settings for a goal, on a ``sample``
- ``survey``, ``tails``: what a teacher is heard for before a cache is begun; ``settle``, ``held``:
  or what the cache says of it
- ``queue``, ``pool``: who gets which unit, and what becomes of it when its actor dies;
  ``patience``: how long to wait in between
- ``actor``, ``scouting``, ``cluster``, ``metrics``: the files that know Ray
- ``tally``, ``events``, ``gpu``: how far a run is and what happens in it; ``record`` tells them all
- ``check``, ``driver``, ``work``: the whole, from a configuration to a report
- ``repair``: the same for what has been damaged
"""

from __future__ import annotations

from kdcache.extract.config import ExtractConfig
from kdcache.extract.driver import prepare, run_extract
from kdcache.extract.repair import RepairReport, run_repair
from kdcache.extract.report import ExtractReport
from kdcache.extract.tally import Snapshot

__all__ = [
    "ExtractConfig",
    "ExtractReport",
    "RepairReport",
    "Snapshot",
    "prepare",
    "run_extract",
    "run_repair",
]
