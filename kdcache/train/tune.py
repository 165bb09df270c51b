"""Training runs as trials of ``ray.tune``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdcache.config import load_config
from kdcache.errors import KdcacheError
from kdcache.train.launch import prepare, run_training, train_here
from kdcache.train.metrics import read_report
from kdcache.train.settings import TrainSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence


def tune_trainable(
    path: str | Path, overrides: Sequence[str] = ()
) -> Callable[[dict[str, Any]], None]:
    """What ``ray.tune.Tuner`` runs: a training run of a configuration, some settings varied.

    Settings to vary stand in the parameter space under their names, ``optim.learning_rate`` or
    nested. Each trial has a directory of its own below ``out``, named by the trial; a trial that
    is started again goes on from its last checkpoint. It reports ``step``, ``loss`` and
    ``validation/<name>`` after each validation and at each checkpoint.

    With one worker the trial is that worker, and has what Tune reserves for it. With more of them
    Ray Train starts these beside the trial, which itself needs next to nothing:
    ``ray.tune.with_resources(trainable, {"CPU": 0.01})``.

    Args:
        path: the configuration, as ``kdcache train`` reads it; every trial reads it again.
        overrides: ``a.b=c`` each, for all trials.

    Raises:
        ConfigError: the configuration cannot be used, whatever is varied.
    """
    file = Path(path).expanduser().absolute()
    load_config(file, TrainSettings, overrides)

    def trial(config: dict[str, Any]) -> None:
        from ray import tune

        varied = [f"{name}={json.dumps(value)}" for name, value in _flat(config)]
        settings = load_config(file, TrainSettings, [*overrides, *varied])
        name = str(tune.get_context().get_trial_id())
        _run(settings.model_copy(update={"out": settings.out / name}))

    return trial


def _run(settings: TrainSettings) -> None:
    from ray import tune
    from ray.tune.integration.ray_train import TuneReportCallback

    reported: list[int] = []

    def report(values: dict[str, Any]) -> None:
        reported.append(values["step"])
        tune.report(values)

    if settings.workers == 1:
        prepare(settings)
        train_here(settings, report)
    else:
        run_training(settings, callbacks=[TuneReportCallback()])
    if settings.workers == 1 and not reported:
        _report_finished(settings, report)


def _report_finished(settings: TrainSettings, report: Callable[[dict[str, Any]], None]) -> None:
    """A trial that is begun again after its end has nothing to do, but Tune wants a result."""
    last = read_report(settings.out)
    if last is None:
        raise KdcacheError(f"{settings.out} holds a finished trial without its metrics.")
    report({"step": last["step"], "loss": last["loss"]})


def _flat(config: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Settings by dotted name, whichever way they are nested."""
    for name, value in config.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value
