"""A whole extraction: find mistakes, plan, run actors, report.

Everything that a user can have got wrong is found here, before Ray is started. What is done
already is read from the cache, never from a state of our own, so the same command resumes
after anything, a kill −9 of every process included.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdcache.errors import ConfigError, SpecMismatchError
from kdcache.extract.plan import Holdings, Plan, plan_units, shown
from kdcache.extract.report import ExtractReport, Snapshot, Tally, by_code
from kdcache.extract.signals import stop_signals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kdcache.extract.config import ExtractConfig
    from kdcache.extract.plan import Unit
    from kdcache.store import Cache, CacheSpec, CacheWriter
    from kdcache.types import Utterance


@dataclass(frozen=True, slots=True)
class Preparation:
    """A run that is fit to start.

    Attributes:
        corpus: every utterance.
        spec: of the cache.
        writer: of the cache, which exists now.
        plan: what is missing from it.
    """

    corpus: tuple[Utterance, ...]
    spec: CacheSpec
    writer: CacheWriter
    plan: Plan


def run_extract(
    config: ExtractConfig, watch: Callable[[Snapshot], None] = lambda _: None
) -> ExtractReport:
    """Bring every utterance of the corpus into the cache that is not there yet.

    Args:
        config: checked settings.
        watch: told how far the run is, about once a second.

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
    ready = prepare(config)
    stopped_by = _work(config, ready, watch) if ready.plan.units else None
    return _report(config, ready, time.monotonic() - started, stopped_by)


def _refuse_memory(cache: str) -> None:
    """Actors are other processes: what they wrote there would be gone with them."""
    if cache.startswith("memory://"):
        raise ConfigError(
            f"{cache} is the memory of one process, which teacher actors do not share; "
            "extract into a directory or a bucket"
        )


def prepare(config: ExtractConfig) -> Preparation:
    """Read, check and plan; creates the cache where there is none.

    Raises:
        InputError: a mistake in the configuration, the corpus, the teacher or the cache.
    """
    from kdcache.store import create_or_open, open_cache

    corpus = read_corpus(config)
    spec, tokenizer_files = check_settings(config, corpus)
    writer = create_or_open(config.cache.path, spec, config.cache.layout, tokenizer_files)
    cache = open_cache(config.cache.path)
    check_unchanged(corpus, _texts(cache), config.cache.path)
    plan = plan_units(
        corpus,
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
    return Preparation(corpus, spec, writer, plan)


def read_corpus(config: ExtractConfig) -> tuple[Utterance, ...]:
    """All manifests, in order.

    Raises:
        ManifestError: one cannot be read or is empty, or an id occurs twice.
    """
    from kdcache.corpus.manifest import read_manifest, refuse_duplicates

    corpus = tuple(u for path in config.manifests for u in read_manifest(path))
    refuse_duplicates(corpus, ", ".join(map(str, config.manifests)))
    return corpus


def check_unchanged(corpus: Iterable[Utterance], texts: dict[str, str], cache: str) -> None:
    """A cached target was conditioned on its transcript: both must still belong together.

    Raises:
        SpecMismatchError: utterances whose transcript is another now, by id.
    """
    changed = [u.id for u in corpus if texts.get(u.id, u.text) != u.text]
    if changed:
        raise SpecMismatchError(
            f"{cache} holds {len(changed)} utterance(s) with another transcript than the corpus "
            f"has now: {shown(changed)}. Give changed utterances new ids, or extract into a new "
            "cache."
        )


def check_settings(
    config: ExtractConfig, corpus: tuple[Utterance, ...]
) -> tuple[CacheSpec, dict[str, bytes]]:
    """What the cache is or will be made of, and the tokenizer's files.

    The teacher is loaded once here, on the CPU, which proves that it loads before anything
    is reserved or written.

    Args:
        config: of the extraction.
        corpus: from whose sample a model of the rest is estimated and codebooks are trained,
            where they have to be.

    Raises:
        InputError: a mistake in the teacher or the targets.
    """
    from kdcache.extract.codebooks import settle_codebooks
    from kdcache.extract.tails import settle_tails
    from kdcache.extract.targets import bind_targets, parse_targets
    from kdcache.store import CacheSpec
    from kdcache.teacher import load_teacher

    targets = parse_targets(config.targets)
    settings = config.teacher
    teacher = load_teacher(settings.path, "cpu", settings.dtype, settings.adapter)
    bind_targets(targets, teacher.spec)
    spec = CacheSpec(
        teacher=teacher.spec,
        tokenizer=teacher.tokenizer.fingerprint,
        targets=settle_codebooks(
            settle_tails(targets, config, teacher, corpus), config, teacher, corpus
        ),
        audio=config.cache.audio,
    )
    return spec.normalised(), teacher.tokenizer.files()


def _work(
    config: ExtractConfig, ready: Preparation, watch: Callable[[Snapshot], None]
) -> int | None:
    """Run the plan; the signal that stopped it, if one did."""
    from kdcache.extract.cluster import connected, muster

    with connected(config), stop_signals() as stopped:
        import ray

        from kdcache.extract.actor import Job, RayActors
        from kdcache.extract.pool import Pool
        from kdcache.extract.queue import WorkQueue

        crew = muster(config, len(ready.plan.units), ray.cluster_resources())
        tally = Tally(ready.plan.missing, watch)

        def keep_going() -> bool:
            tally.show()
            return stopped() is None

        def give_up(unit: Unit, why: str) -> None:
            _record_crash(ready.writer, unit, why)
            tally.add_given_up()

        pool = Pool(
            RayActors(Job(config, ready.spec, crew.device), crew),
            WorkQueue(ready.plan.units, config.max_attempts),
            size=crew.actors,
            max_attempts=config.max_attempts,
            on_done=tally.add,
            give_up=give_up,
        )
        pool.run(keep_going)
        return stopped()


def _record_crash(writer: CacheWriter, unit: Unit, why: str) -> None:
    """The one utterance of ``unit`` has killed every actor that touched it."""
    from kdcache.store import FailedUtterance

    message = f"No teacher actor survives this utterance: {why}"
    failed = [FailedUtterance(u, "crash", message) for batch in unit.batches for u in batch]
    writer.commit(unit.key, (), failed, uuid.uuid4().hex)


def _report(
    config: ExtractConfig, ready: Preparation, seconds: float, stopped_by: int | None
) -> ExtractReport:
    from kdcache.store import open_cache

    cache = open_cache(config.cache.path)
    ids = {utterance.id: None for utterance in ready.corpus}
    rows = cache.catalogue.select(["id", "duration"]).to_pylist()
    seconds_of = {row["id"]: row["duration"] for row in rows if row["id"] in ids}
    failures = {
        row["id"]: (row["error"], row["message"])
        for row in cache.failures.to_pylist()
        if row["id"] in ids and row["id"] not in seconds_of
    }
    return ExtractReport(
        cache=config.cache.path,
        utterances=len(ids),
        done=len(seconds_of) - ready.plan.present,
        skipped=ready.plan.present,
        failed=by_code(failures),
        left=tuple(i for i in ids if i not in seconds_of and i not in failures),
        messages={name: message for name, (_, message) in failures.items()},
        hours=sum(seconds_of.values()) / 3600,
        bytes=cache.nbytes,
        seconds=seconds,
        content_digest=cache.content_digest(),
        stopped_by=stopped_by,
    )


def _texts(cache: Cache) -> dict[str, str]:
    rows = cache.catalogue.select(["id", "text"]).to_pylist()
    return {row["id"]: row["text"] for row in rows}
