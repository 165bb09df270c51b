"""Pruning within training: it resumes exactly, workers agree, and it goes with distillation."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from kdcache.errors import ConfigError
from kdcache.student import load_student
from kdcache.student.pruning import prunable
from kdcache.train.launch import prepare
from kdcache.train.loop import Trainer
from kdcache.train.metrics import read_metrics
from kdcache.train.settings import TrainSettings
from kdcache.train.world import World

ROOT = Path(__file__).parents[3]
SMALL = {"hidden": 16, "layers": 1, "heads": 2, "feed_forward": 2, "joint": 16,
         "subsampling_channels": 4}  # fmt: skip
PRUNE = {"sparsity": 0.8, "begin": 0, "end": 5, "every": 2}


def values_of(tones: Path, out: Path, **changes: Any) -> dict[str, Any]:
    return {
        "out": str(out),
        "data": {"corpus": str(tones / "train.jsonl"), "tokenizer": str(tones / "tokenizer")},
        "student": SMALL,
        "prune": PRUNE,
        "optim": {"steps": 8, "warmup": 2, "learning_rate": 5e-3},
        "batch_seconds": 2.5,
        "micro_batches_per_step": 2,
        "checkpoint_every": 3,
        **changes,
    }


def train(values: dict[str, Any], report: Any = lambda _: None) -> Path:
    return Trainer(TrainSettings.model_validate(values), World(), report).run()


def weights_of(student: Path) -> dict[str, torch.Tensor]:
    return load_file(student / "model.safetensors")


def share_of_zeros(student: Path) -> float:
    weights = prunable(load_student(student)).values()
    return sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)


def test_a_student_is_pruned(tones: Path, tmp_path: Path) -> None:
    student = train(values_of(tones, tmp_path))
    assert share_of_zeros(student) == pytest.approx(0.8, abs=0.01)
    told = [line["sparsity"] for line in read_metrics(tmp_path)]
    assert told == sorted(told)
    assert told[-1] == pytest.approx(0.8, abs=0.01)


class KilledError(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("killed", [3, 6])
def test_a_killed_run_ends_as_an_undisturbed_one(tones: Path, tmp_path: Path, killed: int) -> None:
    def kill(values: dict[str, Any]) -> None:
        if values["step"] == killed:
            raise KilledError

    whole = train(values_of(tones, tmp_path / "whole"))
    broken = values_of(tones, tmp_path / "broken")
    with pytest.raises(KilledError):
        train(broken, kill)
    resumed = weights_of(train(broken))
    for name, weight in weights_of(whole).items():
        assert torch.equal(weight, resumed[name]), name


def test_it_starts_from_a_teacher_s_weights(tones: Path, tmp_path: Path) -> None:
    plain = values_of(tones, tmp_path / "teacher", prune=None)
    teacher = train(plain)
    slow = {"steps": 8, "warmup": 0, "learning_rate": 1e-9}
    changes = {"init": str(teacher), "optim": slow, "student": {}}
    student = train(values_of(tones, tmp_path / "student", **changes))
    before, after = prunable(load_student(teacher)), prunable(load_student(student))
    for name, weight in after.items():
        kept = weight != 0
        torch.testing.assert_close(weight[kept], before[name][kept], atol=1e-6, rtol=0)
        # What went was no larger than what stayed.
        assert before[name][~kept].abs().max() <= before[name][kept].abs().min() + 1e-6


@pytest.mark.slow
def test_workers_prune_the_same_weights(tones: Path, tmp_path: Path) -> None:
    """Were they to differ, the sum of their gradients would lead the first one elsewhere."""
    values = values_of(tones, tmp_path / "two", workers=2)
    (tmp_path / "two.json").write_text(json.dumps(values))
    command = [sys.executable, "-m", "tests.unit.train.gloo_run", str(tmp_path / "two.json")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    alone = weights_of(train(values_of(tones, tmp_path / "one")))
    together = weights_of(tmp_path / "two" / "student")
    for name, weight in alone.items():
        assert ((weight == 0) == (together[name] == 0)).float().mean() > 0.99, name
        torch.testing.assert_close(weight, together[name], atol=5e-3, rtol=0)


def test_an_end_after_the_last_step_is_refused(tones: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"prune.end \(9\) within optim.steps \(8\)"):
        TrainSettings.model_validate(values_of(tones, tmp_path, prune={**PRUNE, "end": 9}))


def test_another_schedule_is_another_run(tones: Path, tmp_path: Path) -> None:
    prepare(TrainSettings.model_validate(values_of(tones, tmp_path)))
    other = values_of(tones, tmp_path, prune={**PRUNE, "sparsity": 0.5})
    with pytest.raises(ConfigError, match="holds a run with prune"):
        prepare(TrainSettings.model_validate(other))
