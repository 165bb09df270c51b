"""``train``: what `kdcache train` does. Outputs: ``student``, ``run``, and ``best`` where there is
a validation, ``teacher`` where one is trained beside it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from kdcache.errors import ConfigError
from kdcache.pipeline.digest import digest_of
from kdcache.pipeline.kind import StageKind
from kdcache.train import TrainSettings, note_of, run_training
from kdcache.train.launch import FREE

if TYPE_CHECKING:
    from pathlib import Path

    from kdcache.pipeline.kind import Work


class TrainKind(StageKind[TrainSettings]):
    """A training run, whose ``out`` is the stage's folder."""

    model = TrainSettings

    def complete(self, values: dict[str, Any], place: Path) -> dict[str, Any]:
        """``out``, and as many CPUs as there are unless settings say otherwise.

        Raises:
            ConfigError: ``out`` is given.
        """
        if "out" in values:
            raise ConfigError("`out` is the stage's own folder; leave it out.")
        return {"cpus_per_worker": os.cpu_count() or 1, **values, "out": str(place)}

    def outputs(self, settings: TrainSettings, place: Path) -> dict[str, Path]:
        """The finished student, the run with its checkpoints, the best student, and the teacher
        that was trained beside it."""
        best = {"best": place / "best"} if settings.validation is not None else {}
        tandem = settings.live is not None and settings.live.train
        teacher = {"teacher": place / "teacher"} if tandem else {}
        return {"student": place / "student", "run": place, **best, **teacher}

    def decisive(self, settings: TrainSettings) -> dict[str, Any]:
        """All but those that a run may change when it goes on."""
        return settings.model_dump(mode="json", exclude=FREE, exclude_defaults=True)

    def cpus(self, settings: TrainSettings, ray: bool) -> float | None:
        """Those of all workers."""
        if settings.ray_address is not None or not (ray or settings.workers > 1):
            return None
        return settings.workers * settings.cpus_per_worker

    def beside_others(self, settings: TrainSettings, threads: int) -> TrainSettings:
        """With so many threads, unless settings say how many, or it runs on a cluster."""
        if settings.threads or settings.ray_address is not None:
            return settings
        return settings.model_copy(update={"threads": threads})

    def run(self, settings: TrainSettings, work: Work) -> dict[str, Any]:
        """Train, or go on; the loss of the last step, and the seconds of training."""
        with work.show(f"Training {work.name}", settings.optim.steps, "steps") as shown:
            report = run_training(
                settings,
                lambda now: shown.update(now["step"], note=note_of(now)),
                here=not work.ray,
            )
        return {
            "steps": report.steps,
            "loss": report.loss,
            "seconds": report.seconds,
            "stall": report.stall,
            "validation": report.validation,
        }

    def digest(self, name: str, path: Path) -> str:
        """Of weights and configuration; a run is known by its finished student."""
        return digest_of(path / "student" if name == "run" else path)
