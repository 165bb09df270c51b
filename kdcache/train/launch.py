"""Start a run under Ray Train, watch it, and come back with what it made."""

from __future__ import annotations

import contextlib
import json
import math
import os
import threading
import uuid
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from kdcache.errors import ConfigError, KdcacheError
from kdcache.session import ray_session
from kdcache.signals import stop_signals
from kdcache.train.checkpoint import best_student, finished_student, read_best
from kdcache.train.failure import failure_file, read_failure
from kdcache.train.metrics import read_metrics, read_report
from kdcache.train.stopping import (
    STOPPING,
    is_there,
    never,
    stopped_early,
    training_file,
    workers_told,
)
from kdcache.train.workers import Workers, run_trainer
from kdcache.train.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from ray.train import UserCallback

    from kdcache.train.settings import TrainSettings

# What may change between two starts of one run without changing what it computes.
FREE: dict[str, Any] = {
    "out": True,
    "workers": True,
    "threads": True,
    "cpus_per_worker": True,
    "gpu": True,
    "max_failures": True,
    "ray_address": True,
    "checkpoint_every": True,
    "keep_checkpoints": True,
    "tensorboard": True,
    "data": {"disk_cache", "disk_cache_bytes", "ahead_shards"},
}


@dataclass(frozen=True, slots=True)
class TrainReport:
    """What a run made.

    Attributes:
        student: directory of the trained student, in Hugging Face form.
        steps: optimiser steps done.
        loss: of the last step.
        seconds: of training in the last start, start-up left out.
        waiting: of these, seconds spent waiting for batches; of each step, the worker's that
            waited longest.
        stall: the share of ``seconds`` that is ``waiting``.
        damaged: utterances that were skipped because their stored bytes are damaged.
        best: directory of the student of the best validation, ``None`` without validation.
        validation: its step and values.
    """

    student: Path
    steps: int
    loss: float
    seconds: float
    waiting: float
    stall: float
    damaged: int
    best: Path | None = None
    validation: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        best = None if self.best is None else str(self.best)
        return {**asdict(self), "student": str(self.student), "best": best}


def run_training(
    settings: TrainSettings,
    watch: Callable[[dict[str, Any]], None] = lambda _: None,
    callbacks: Sequence[UserCallback] = (),
    *,
    here: bool = False,
) -> TrainReport:
    """Train a student; the same settings go on where a killed run stopped.

    Args:
        settings: of the run.
        watch: called on this process with each step's metrics as they are written.
        callbacks: of Ray Train, for whoever runs this within something greater.
        here: train in this process, without Ray, where the run has but one worker and no cluster.
            The student is the same; what is spared is the start of Ray and of a worker.

    Raises:
        ConfigError: the directory holds a run with other settings; or GPUs are missing here.
        KdcacheError: whatever a worker raised; or the run has ended, and its metrics are gone.
        Stopped: SIGINT or SIGTERM came. The step that was under way is done and kept, and the
            same settings go on after it. A second signal ends the program at once.
    """
    prepare(settings)
    os.environ.setdefault("RAY_TRAIN_METRICS_ENABLED", "0")
    # A busy machine may take minutes to import torch in every worker; that is no failure.
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "600")
    student = finished_student(settings.out)
    if not student.is_dir():
        with _watching(settings.out, watch):
            if here and settings.workers == 1 and settings.ray_address is None:
                number = _train_quietly(settings)
            else:
                with ray_session(settings.ray_address, _own_cluster(settings)):
                    _check_gpus(settings)
                    number = _fit(settings, callbacks)
        if number is not None and not is_there(student):
            raise stopped_early(settings, number)
    return _report(settings.out)


def _report(out: Path) -> TrainReport:
    student, last = finished_student(out), read_report(out)
    if last is None:
        raise KdcacheError(
            f"The run in {out} has ended, and its metrics are gone; the student is in {student}. "
            "To train again, delete it or give another `out`."
        )
    validation = read_best(out)
    return TrainReport(
        student,
        last["step"],
        last["loss"],
        last["seconds"],
        last["waiting"],
        last["waiting"] / max(last["seconds"], 1e-9),
        last.get("damaged", 0),
        best_student(out) if validation else None,
        validation,
    )


def prepare(settings: TrainSettings) -> None:
    """Find a user's mistakes before anything starts, and note the settings in the run."""
    from kdcache.train.alignment import alignment_of
    from kdcache.train.board import check_board
    from kdcache.train.data import load_data, load_validation
    from kdcache.train.denominator import check_denominator
    from kdcache.train.live import check_live

    _check_same_run(settings)
    if settings.tensorboard:
        check_board()
    world = World(size=settings.workers)
    stream, tokenizer = load_data(settings, world)
    check_denominator(settings.loss, tokenizer)
    if settings.validation is not None:
        load_validation(settings, world, tokenizer)
    if settings.init is None and settings.live is None:
        clocks = (stream.source.frame_shift, settings.student.frame_shift)
        alignment_of(settings.align, settings.loss, *clocks)
    check_live(settings)
    settings.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_comparable(settings), indent=2) + "\n"
    (settings.out / "config.json").write_text(text, encoding="utf-8")


def _check_same_run(settings: TrainSettings) -> None:
    from kdcache.train.settings import TrainSettings

    path = settings.out / "config.json"
    if not path.is_file():
        return
    noted = json.loads(path.read_text(encoding="utf-8"))
    # A setting that is younger than the run has its default, so that the run goes on.
    before = _comparable(TrainSettings.model_validate({**noted, "out": settings.out}))
    now = _comparable(settings)
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key):
            raise ConfigError(
                f"{settings.out} holds a run with {key} = {before.get(key)}, and now {key} = "
                f"{now.get(key)}; give the same settings to resume it, or another `out`."
            )


def _comparable(settings: TrainSettings) -> dict[str, Any]:
    return settings.model_dump(mode="json", exclude=FREE)


def _own_cluster(settings: TrainSettings) -> dict[str, Any]:
    """A cluster that is started for the run holds all its workers, whatever the machine has."""
    return {
        "num_cpus": math.ceil(settings.workers * settings.cpus_per_worker),
        "object_store_memory": 100 * 2**20,
    }


def _check_gpus(settings: TrainSettings) -> None:
    """Ray would wait for ever for what this machine has not; a cluster elsewhere may yet grow, and
    a trial of Tune, which is an actor, may be in one."""
    import ray

    in_actor = ray.get_runtime_context().get_actor_id() is not None
    if settings.gpu and settings.ray_address is None and not in_actor:
        found = int(ray.cluster_resources().get("GPU", 0))
        if found < settings.workers:
            raise ConfigError(
                f"`gpu: true` wants a GPU for each of {settings.workers} worker(s), and here there "
                f"are {found}: give fewer `workers`, `gpu: false`, or a cluster's `ray_address`."
            )


def _fit(settings: TrainSettings, callbacks: Sequence[UserCallback]) -> int | None:
    """Run the workers to the end, whatever becomes of some of them; or until a signal comes,
    whose number is returned."""
    launch = uuid.uuid4().hex
    failure, training = failure_file(settings.out, launch), training_file(settings.out, launch)
    workers = Workers(settings, launch, callbacks)
    _clear(settings.out)
    with stop_signals(STOPPING) as stopped:
        try:
            with workers_told(stopped, training, workers.end):
                workers.fit()
        except Exception as error:
            found = read_failure(failure) or _own_error(error)
            if found is not None:
                raise found from None
            # Workers are lost when machines go, whose notice the signal was.
            if stopped() is None:
                raise
        else:
            # Workers that are started again after such an error end without one.
            if (found := read_failure(failure)) is not None:
                raise found
        finally:
            _clear(settings.out)
        return stopped()


def _clear(out: Path) -> None:
    """Delete what driver and workers tell each other, of this launch and of any that was killed."""
    for file in (*out.glob(failure_file(out, "*").name), *out.glob(training_file(out, "*").name)):
        file.unlink(missing_ok=True)


def train_here(
    settings: TrainSettings,
    report: Callable[[dict[str, Any]], None],
    stop: Callable[[], bool] = never,
) -> None:
    """The run's one worker, in this process; nothing where the run has ended.

    Args:
        settings: of a run that is prepared.
        report: see ``kdcache.train.loop.Trainer``.
        stop: see there.

    Raises:
        KdcacheError: whatever goes wrong.
    """
    import torch

    if not finished_student(settings.out).is_dir():
        device = torch.device("cuda" if settings.gpu else "cpu")
        run_trainer(settings, World(device=device), report, stop)


def _train_quietly(settings: TrainSettings) -> int | None:
    """In a process whose progress people look at, libraries keep theirs to themselves; the
    number of the signal that came, if one did."""
    from kdcache.quiet import quiet_transformers

    with quiet_transformers(), stop_signals(STOPPING) as stopped:
        train_here(settings, lambda _: None, lambda: stopped() is not None)
        return stopped()


def _own_error(error: BaseException) -> KdcacheError | None:
    """The first error of ours among a Ray Train failure's workers and causes."""
    failures = getattr(error, "worker_failures", {})
    queue = [*failures.values(), error.__cause__, getattr(error, "cause", None)]
    for found in queue:
        if isinstance(found, KdcacheError):
            return found
        if isinstance(found, BaseException) and found is not error:
            inner = _own_error(found)
            if inner is not None:
                return inner
    return None


@contextlib.contextmanager
def _watching(out: Path, watch: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    """Hand each new line of the run's metrics file to ``watch``, from a thread."""
    stop = threading.Event()
    seen = len(read_metrics(out))

    def follow() -> None:
        nonlocal seen
        while True:
            ended = stop.wait(1.0)
            lines = read_metrics(out)
            seen = min(seen, len(lines))  # a resumed run drops what came after its checkpoint
            for values in lines[seen:]:
                watch(values)
            seen = len(lines)
            if ended:
                return

    thread = threading.Thread(target=follow, name="kdcache-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
