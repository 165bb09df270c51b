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
from kdcache.train.checkpoint import finished_student
from kdcache.train.metrics import read_metrics
from kdcache.train.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ray.train import Result

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
    """

    student: Path
    steps: int
    loss: float
    seconds: float
    waiting: float
    stall: float
    damaged: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {**asdict(self), "student": str(self.student)}


def run_training(
    settings: TrainSettings, watch: Callable[[dict[str, Any]], None] = lambda _: None
) -> TrainReport:
    """Train a student; the same settings go on where a killed run stopped.

    Args:
        settings: of the run.
        watch: called on this process with each step's metrics as they are written.

    Raises:
        ConfigError: the directory holds a run with other settings.
        KdcacheError: whatever a worker raised.
    """
    prepare(settings)
    os.environ.setdefault("RAY_TRAIN_METRICS_ENABLED", "0")
    # A busy machine may take minutes to import torch in every worker; that is no failure.
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "600")
    student = finished_student(settings.out)
    if not student.is_dir():
        session = ray_session(settings.ray_address, _own_cluster(settings))
        with _watching(settings.out, watch), session:
            _fit(settings)
    last = read_metrics(settings.out)[-1]
    return TrainReport(
        student,
        last["step"],
        last["loss"],
        last["seconds"],
        last["waiting"],
        last["waiting"] / max(last["seconds"], 1e-9),
        last.get("damaged", 0),
    )


def prepare(settings: TrainSettings) -> None:
    """Find a user's mistakes before anything starts, and note the settings in the run."""
    from kdcache.train.alignment import alignment_of
    from kdcache.train.data import load_data

    _check_same_run(settings)
    stream, _ = load_data(settings, World(size=settings.workers))
    if settings.init is None:
        clocks = (stream.source.frame_shift, settings.student.frame_shift)
        alignment_of(settings.align, settings.loss, *clocks)
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


def _fit(settings: TrainSettings) -> Result:
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    config = {"settings": settings.model_dump(mode="json"), "launch": uuid.uuid4().hex}
    trainer = TorchTrainer(
        worker,
        train_loop_config=config,
        scaling_config=ScalingConfig(
            num_workers=settings.workers,
            use_gpu=settings.gpu,
            resources_per_worker={"CPU": settings.cpus_per_worker},
        ),
        run_config=RunConfig(
            name="ray",
            storage_path=str(settings.out.absolute()),
            failure_config=FailureConfig(max_failures=settings.max_failures),
        ),
    )
    try:
        return trainer.fit()
    except Exception as error:
        found = _own_error(error)
        if found is None:
            raise
        raise found from None


def worker(config: dict[str, Any]) -> None:
    """What each Ray Train worker runs."""
    import ray.train
    import torch
    from ray.train.torch import get_device

    from kdcache.train.loop import Trainer
    from kdcache.train.settings import TrainSettings

    settings = TrainSettings.model_validate(config["settings"])
    poison = settings.out / f".failed-{config['launch']}"
    if poison.exists():  # a start before this one met an error that trying again cannot mend
        raise KdcacheError(poison.read_text(encoding="utf-8"))
    torch.set_num_threads(settings.threads or max(int(settings.cpus_per_worker), 1))
    context = ray.train.get_context()
    world = World(context.get_world_rank(), context.get_world_size(), get_device())
    try:
        Trainer(settings, world, ray.train.report).run()
    except KdcacheError as error:
        poison.write_text(error.message, encoding="utf-8")
        raise


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
