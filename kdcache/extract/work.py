"""A plan worked off by actors, with all that watches over it."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from kdcache.errors import KdcacheError, StorageError
from kdcache.extract.patience import persist
from kdcache.extract.tally import Tally
from kdcache.signals import stop_signals

if TYPE_CHECKING:
    from collections.abc import Callable

    from kdcache.extract.cluster import Following
    from kdcache.extract.config import ExtractConfig
    from kdcache.extract.driver import Preparation
    from kdcache.extract.plan import Unit
    from kdcache.extract.pool import Pool
    from kdcache.extract.record import Record
    from kdcache.extract.tally import Snapshot
    from kdcache.store import CacheWriter

STOPPING = "Stopping when actors have done what they have in hand; a second signal ends at once."
"""What is told when the first signal comes."""


def work_off(
    config: ExtractConfig, ready: Preparation, watch: Callable[[Snapshot], None]
) -> int | None:
    """Run the plan; the signal that stopped it, if one did.

    Raises:
        ConfigError: not a single actor fits, or events cannot be written.
        StorageError: the cache cannot be written.
        KdcacheError: actors died without end.
    """
    from kdcache.extract.cluster import connected
    from kdcache.extract.gpu import GpuWatch

    with connected(config), GpuWatch() as gpu, stop_signals(STOPPING) as stopped:
        tally = Tally(ready.plan.missing, watch, gpu=gpu)
        record, pool, actors = _set_up(config, ready, tally)

        def keep_going() -> bool:
            record.show()
            pool.resize(actors.wanted())
            return stopped() is None

        try:
            pool.run(keep_going)
        except KdcacheError as error:
            record.end("failed", error.message)
            if isinstance(error, StorageError):
                raise _with_ledger(error, tally) from error
            raise
        record.end(_outcome(tally, stopped()))
        return stopped()


def _set_up(
    config: ExtractConfig, ready: Preparation, tally: Tally
) -> tuple[Record, Pool, Following]:
    """Everything that a run is made of; no actor is started yet."""
    from kdcache.extract.actor import Job, RayActors
    from kdcache.extract.cluster import Following, cluster_nodes, muster
    from kdcache.extract.events import open_log
    from kdcache.extract.metrics import RunMetrics
    from kdcache.extract.pool import Pool
    from kdcache.extract.queue import WorkQueue
    from kdcache.extract.record import Record

    crew = muster(config, len(ready.plan.units), cluster_nodes())
    record = Record(tally, open_log(config), RunMetrics(config.cache.path))

    def give_up(unit: Unit, why: str) -> None:
        _record_crash(ready.writer, unit, why, config.storage_patience)
        record.add_given_up()

    pool = Pool(
        RayActors(Job(config, ready.spec, crew.device), crew),
        WorkQueue(ready.plan.units, config.max_attempts),
        size=crew.actors,
        max_attempts=config.max_attempts,
        on_done=record.add,
        give_up=give_up,
        tell=record.tell,
    )
    record.begin(ready, crew)
    return record, pool, Following(config, crew)


def _outcome(tally: Tally, stopped_by: int | None) -> str:
    if tally.done < tally.total and stopped_by is not None:
        return "stopped"
    return "incomplete" if tally.failed else "complete"


def _with_ledger(error: StorageError, tally: Tally) -> StorageError:
    """The storage's error, and what became of the run that it ended."""
    told = error.message.rstrip(".")
    return type(error)(
        f"{told}. Of {tally.total} utterances {tally.done} were done and stay; the same command "
        "does the others."
    )


def _record_crash(writer: CacheWriter, unit: Unit, why: str, patience: float) -> None:
    """The one utterance of ``unit`` has killed every actor that touched it."""
    from kdcache.store import FailedUtterance

    message = f"No teacher actor survives this utterance: {why}"
    failed = [FailedUtterance(u, "crash", message) for batch in unit.batches for u in batch]
    attempt = uuid.uuid4().hex
    persist(lambda: writer.commit(unit.key, (), failed, attempt), unit.key, patience)
