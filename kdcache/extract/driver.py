"""A whole extraction: find mistakes, plan, run actors, report.

Everything that a user can have got wrong is found here, before Ray is started, but for a goal
that no setting reaches. What is done already is read from the cache, never from a state of our
own, so the same command resumes after anything, a kill −9 of every process included.
"""

from __future__ import annotations

import math
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from kdcache.corpus.table import among
from kdcache.errors import ConfigError
from kdcache.extract.check import check_settings
from kdcache.extract.intake import Corpus, check_unchanged, read_corpus
from kdcache.extract.patience import persist
from kdcache.extract.plan import Holdings, Plan, plan_units
from kdcache.extract.report import ExtractReport, by_code
from kdcache.extract.work import work_off

if TYPE_CHECKING:
    from collections.abc import Callable

    from kdcache.extract.config import ExtractConfig
    from kdcache.extract.errand import Errand, Scout, Settled, Survey, Watch
    from kdcache.extract.tally import Snapshot
    from kdcache.store import CacheSpec, CacheWriter, Choice


@dataclass(frozen=True, slots=True)
class Preparation:
    """A run that is fit to start.

    Attributes:
        corpus: every utterance, and what of the manifests is none.
        spec: of the cache.
        writer: of the cache, which exists now.
        plan: what is missing from it.
        choices: how settings came about that were chosen for a goal.
    """

    corpus: Corpus
    spec: CacheSpec
    writer: CacheWriter
    plan: Plan
    choices: tuple[Choice, ...] = ()


def run_extract(
    config: ExtractConfig,
    watch: Callable[[Snapshot], None] = lambda _: None,
    watch_survey: Callable[[Survey], None] = lambda _: None,
) -> ExtractReport:
    """Bring every utterance of the corpus into the cache that is not there yet.

    Args:
        config: checked settings.
        watch: told how far the run is, about once a second.
        watch_survey: told how far a look at a sample is, where one is needed before a new
            cache is begun, and what was chosen by it.

    Returns:
        What the cache holds of the corpus afterwards. SIGINT and SIGTERM end a run early;
        the report then says so, and what was committed stays.

    Raises:
        InputError: something about the settings, found before any actor starts.
        StorageError: the cache cannot be written.
        KdcacheError: actors died without end.
    """
    started = time.monotonic()
    _refuse_memory(config.cache.path)
    # One Ray for both, where settings have to be found before the work begins.
    with ExitStack() as session:
        ready = prepare(config, watch_survey, ray_scout(config, session))
        stopped_by = work_off(config, ready, watch) if ready.plan.units else None
    seconds = time.monotonic() - started
    return persist(
        lambda: report_of(config, ready, seconds, stopped_by), "report", config.storage_patience
    )


def ray_scout(config: ExtractConfig, session: ExitStack) -> Scout:
    """A scout where teachers run; Ray is started when it is sent, and stays until ``session``
    ends."""

    def scout(errand: Errand, watch: Watch) -> Settled:
        from kdcache.extract.cluster import connected

        session.enter_context(connected(config))
        from kdcache.extract.scouting import scout_with_ray

        return scout_with_ray(errand, watch)

    return scout


def _refuse_memory(cache: str) -> None:
    """Actors are other processes: what they wrote there would be gone with them."""
    if cache.startswith("memory://"):
        raise ConfigError(
            f"{cache} is the memory of one process, which teacher actors do not share; "
            "extract into a directory or a bucket"
        )


def prepare(
    config: ExtractConfig,
    watch: Callable[[Survey], None] = lambda _: None,
    scout: Scout | None = None,
) -> Preparation:
    """Read, check and plan; creates the cache where there is none.

    Args:
        config: of the extraction.
        watch: told how far a look at a sample is, where one is needed.
        scout: who takes that look; by default this process, on the CPU.

    Raises:
        InputError: a mistake in the configuration, the corpus, the teacher or the cache.
    """
    from kdcache.store import create_or_open, open_cache

    corpus = read_corpus(config)
    checked = check_settings(config, corpus.utterances, watch, scout)
    spec, layout = checked.spec, config.cache.layout
    files, choices = checked.tokenizer_files, checked.choices
    writer = create_or_open(config.cache.path, spec, layout, files, choices)
    cache = open_cache(config.cache.path)
    check_unchanged(corpus.utterances, cache)
    plan = plan_units(
        corpus.utterances,
        spec=spec.spec_hash,
        unit_utterances=config.unit_utterances,
        batch_seconds=config.batch_seconds,
        held=Holdings(
            present=frozenset(cache.ids),
            failed=frozenset(cache.failures["id"].to_pylist()),
            units=frozenset(cache.units),
        ),
        retry_failed=config.retry_failed,
    )
    return Preparation(corpus, spec, writer, plan, choices)


def report_of(
    config: ExtractConfig, ready: Preparation, seconds: float, stopped_by: int | None = None
) -> ExtractReport:
    """What the cache holds of the corpus now, whoever brought it there."""
    from kdcache.store import open_cache

    cache, ids = open_cache(config.cache.path), ready.corpus.utterances.ids
    rows = cache.catalogue.select(["id", "duration"])
    good = rows.filter(pa.array(among(rows["id"], ids)))
    failed = cache.failures.filter(pa.array(among(cache.failures["id"], ids)))
    failures = {row["id"]: (row["error"], row["message"]) for row in failed.to_pylist()}
    left_N = ~(among(ids, good["id"]) | among(ids, failures))
    return ExtractReport(
        cache=config.cache.path,
        utterances=len(ids),
        done=len(good) - ready.plan.present,
        skipped=ready.plan.present,
        failed=by_code(failures),
        left=tuple(ids.filter(pa.array(left_N)).to_pylist()),
        messages={name: message for name, (_, message) in failures.items()},
        hours=math.fsum(good["duration"].to_pylist()) / 3600,
        bytes=cache.nbytes,
        seconds=seconds,
        content_digest=cache.content_digest(),
        stopped_by=stopped_by,
        choices=ready.choices,
        bad_lines=ready.corpus.bad_lines,
    )
