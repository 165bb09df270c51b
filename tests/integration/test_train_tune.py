"""A sweep: the trials of ``ray.tune`` are training runs."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from kdcache.errors import ConfigError
from kdcache.train import tune_trainable
from kdcache.train.metrics import read_metrics

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SMALL = {"hidden": 16, "layers": 1, "heads": 2, "feed_forward": 2, "joint": 16,
         "subsampling_channels": 4}  # fmt: skip


@pytest.fixture
def config(tones: Path, tmp_path: Path) -> Path:
    corpus = str(tones / "train.jsonl")
    values = {
        "out": "runs",
        "data": {"corpus": corpus, "tokenizer": str(tones / "tokenizer")},
        "student": SMALL,
        "optim": {"steps": 4, "warmup": 1},
        "batch_seconds": 4.0,
        "validation": {"corpus": corpus, "every": 2, "metric": "loss"},
    }
    path = tmp_path / "student.yaml"
    path.write_text(json.dumps(values))
    return path


def sweep(trial: Callable[[dict[str, Any]], None], folder: Path, **space: Any) -> Any:
    from ray import tune

    tuner = tune.Tuner(
        trial,
        param_space=space,
        tune_config=tune.TuneConfig(metric="validation/loss", mode="min"),
        run_config=tune.RunConfig(storage_path=str(folder), verbose=0),
    )
    return tuner.fit()


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_the_example_of_the_documentation(
    config: Path, tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = (repository / "docs" / "training.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", document, re.S)
    (code,) = (block for block in blocks if "tune_trainable" in block)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code, names)
    results = names["results"]
    assert not results.errors
    runs = [path.parent for path in (tmp_path / "runs").glob("*/config.json")]
    noted = [json.loads((run / "config.json").read_text()) for run in runs]
    assert sorted(values["optim"]["learning_rate"] for values in noted) == [0.001, 0.01]
    assert {values["seed"] for values in noted} == {3}
    for result in results:
        assert list(result.metrics_dataframe["step"]) == [2, 4]
    losses = [json.loads((run / "best" / "validation.json").read_text())["loss"] for run in runs]
    best = min(result.metrics_dataframe["validation/loss"].min() for result in results)
    assert best == pytest.approx(min(losses))
    assert all(len(read_metrics(run)) == 4 for run in runs)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_a_trial_of_two_workers(config: Path, tmp_path: Path) -> None:
    from ray import tune

    some = ["workers=2", "micro_batches_per_step=2", "cpus_per_worker=0.5"]
    trial = tune.with_resources(tune_trainable(config, some), {"CPU": 0.01})
    (result,) = sweep(trial, tmp_path / "tune", seed=5)
    assert result.error is None
    assert result.metrics["step"] == 4
    assert result.metrics["validation/loss"] > 0


def test_a_mistake_is_found_before_a_trial_starts(config: Path) -> None:
    with pytest.raises(ConfigError, match=r"Did you mean 'optim\.steps'"):
        tune_trainable(config, ["optim.stepss=3"])
