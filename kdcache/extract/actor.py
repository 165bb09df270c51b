"""Teacher actors: they load the teacher once, then take units and commit them themselves.

Small values go back to the driver, never arrays. Restarts and retries are the pool's
business, not Ray's: it alone knows which unit killed how many actors.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import ActorUnavailableError, RayActorError, RayError, RayTaskError

from kdcache.errors import KdcacheError, SpecMismatchError
from kdcache.extract.patience import persist
from kdcache.extract.pool import ActorLostError, Done

if TYPE_CHECKING:
    from collections.abc import Collection

    from kdcache.extract.cluster import Crew
    from kdcache.extract.config import ExtractConfig
    from kdcache.extract.plan import Unit
    from kdcache.extract.worker import UnitResult, UnitWorker
    from kdcache.store import CacheSpec, CacheWriter, CommitResult
    from kdcache.teacher import Teacher
    from kdcache.types import TeacherSpec

UNITS_IN_FLIGHT = 2
"""What the pool gives an actor at most: the second is decoded while the first is computed."""

_TOLD = 300
"""Characters of Ray's account of a death that are passed on."""

_PARTICULARS = re.compile(
    r"\b(class_name|actor_id|pid|namespace|ip|Lease ID|Worker ID|Node ID): \S+"
)

_NODE_DIED = "its node has died"


@dataclass(frozen=True, slots=True)
class Job:
    """What every actor of a run is told.

    Attributes:
        config: of the run.
        spec: of the cache; what the driver found must be what the actor finds.
        device: where the teacher runs.
    """

    config: ExtractConfig
    spec: CacheSpec
    device: str


class ExtractActor:
    """One teacher in one process, which may be given a unit while it works on another. Errors
    that kdcache knows are returned, not raised: a raised one would come back wrapped in Ray's."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._worker: UnitWorker
        self._writer: CacheWriter

    def start(self) -> KdcacheError | None:
        """Load the teacher, open the cache and rehearse."""
        try:
            self._start()
        except KdcacheError as error:
            return error
        return None

    def extract(self, unit: Unit) -> Done | KdcacheError:
        """Compute and commit a unit."""
        started = time.monotonic()
        try:
            result = self._worker.run(unit)
            writing = time.monotonic()
            size = self._commit(unit, result).bytes
        except KdcacheError as error:
            return error
        ended = time.monotonic()
        return Done(
            packed=len(result.packed),
            failed=len(result.failed),
            audio_seconds=result.audio_seconds,
            seconds=ended - started,
            halvings=result.halvings,
            stages=replace(result.stages, write=ended - writing),
            bytes=size,
            failures=tuple((f.utterance.id, f.code, f.message) for f in result.failed),
        )

    def _commit(self, unit: Unit, result: UnitResult) -> CommitResult:
        """Commit, and try again while the storage fails: the unit need not be computed anew."""
        attempt = uuid.uuid4().hex
        return persist(
            lambda: self._writer.commit(unit.key, result.packed, result.failed, attempt),
            unit.key,
            self._job.config.storage_patience,
        )

    def _start(self) -> None:
        config, spec = self._job.config, self._job.spec
        teacher = load_pinned(config, spec.teacher, self._job.device)
        from kdcache.extract.targets import bind_targets
        from kdcache.extract.worker import UnitWorker
        from kdcache.store import create_or_open

        files = teacher.tokenizer.files()
        self._writer = persist(
            lambda: create_or_open(config.cache.path, spec, config.cache.layout, files),
            str(os.getpid()),
            config.storage_patience,
        )
        self._worker = UnitWorker(
            teacher,
            bind_targets(spec.targets, teacher.spec),
            keep_audio=config.cache.audio == "flac",
            decode_threads=config.decode_threads,
        )
        self._worker.rehearse()


class RayActors:
    """The pool's :class:`~kdcache.extract.pool.Actors`, as Ray core actors."""

    def __init__(self, job: Job, crew: Crew) -> None:
        self._job = ray.put(job)
        self._class = ray.remote(ExtractActor).options(
            num_cpus=crew.cpus,
            num_gpus=crew.gpus,
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=UNITS_IN_FLIGHT,
        )

    def spawn(self) -> tuple[Any, Any]:
        """Start an actor: its handle, and the call that is over when it is ready."""
        actor = self._class.remote(self._job)
        return actor, actor.start.remote()

    def submit(self, actor: Any, unit: Unit) -> Any:
        """Give an actor a unit."""
        return actor.extract.remote(unit)

    def wait(self, calls: Collection[Any], seconds: float) -> list[Any]:
        """Calls that are over; all of them that are so already."""
        ready, others = ray.wait(list(calls), num_returns=1, timeout=seconds)
        if ready and others:
            ready += ray.wait(others, num_returns=len(others), timeout=0)[0]
        return list(ready)

    def result(self, call: Any) -> Done | KdcacheError | None:
        """What a call gave; any of Ray's errors means that the actor is lost."""
        try:
            result: Done | KdcacheError | None = ray.get(call)
        except RayError as error:
            raise ActorLostError(account(error), with_node=_with_node(error)) from error
        return result

    def kill(self, actor: Any) -> None:
        """End an actor; none is restarted."""
        with contextlib.suppress(RayError, ValueError):
            ray.kill(actor, no_restart=True)


def load_pinned(config: ExtractConfig, known: TeacherSpec, device: str) -> Teacher:
    """The teacher in an actor's process, whose libraries are pinned before they are imported.

    Raises:
        SpecMismatchError: it is another one than the driver found.
    """
    os.environ.update(environment(config.threads_per_actor))
    # Only now, so that these libraries find the environment as it has to be.
    from kdcache.extract.load import load_configured

    _make_reproducible(config.threads_per_actor, device)
    teacher = load_configured(config.teacher, device)
    if teacher.spec.fingerprint != known.fingerprint:
        raise SpecMismatchError(
            f"An actor on {ray.util.get_node_ip_address()} finds another teacher in "
            f"{config.teacher.path} than the driver does; every node must see the same directory "
            "and have the same versions of torch and transformers."
        )
    return teacher


def environment(threads: int) -> dict[str, str]:
    """What an actor's libraries read when they are imported."""
    return {
        "HF_HUB_OFFLINE": "1",  # a teacher is a folder: nothing is ever fetched
        "TRANSFORMERS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # one order of summation in cuBLAS
    }


def _make_reproducible(threads: int, device: str) -> None:
    """Pin what changes the order of a sum, and with it the last digits."""
    import torch

    torch.set_num_threads(threads)
    if device != "cpu":
        torch.backends.cudnn.benchmark = False
        torch.use_deterministic_algorithms(True, warn_only=True)


def _with_node(error: RayError) -> bool:
    """Whether the actor's node, or the way to it, was lost: Ray says so in its account alone."""
    if isinstance(error, ActorUnavailableError):
        return True
    return isinstance(error, RayActorError) and (error.preempted or _NODE_DIED in str(error))


def account(error: RayError) -> str:
    """Ray's many lines about a death in one, without ids that say nothing tomorrow."""
    cause = getattr(error, "cause", None) if isinstance(error, RayTaskError) else None
    text = f"{type(cause).__name__}: {cause}" if cause else f"{type(error).__name__}: {error}"
    return " ".join(_PARTICULARS.sub(" ", text).split())[:_TOLD]
