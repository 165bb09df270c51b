"""Checkpoints are whole or not there, and what a run ends with can be told again."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
import torch

from kdcache.corpus import load_tokenizer
from kdcache.errors import ConfigError, InputError, KdcacheError, StorageError
from kdcache.student import StudentSettings, build_student
from kdcache.train import checkpoint as module
from kdcache.train.checkpoint import (
    clear_leavings,
    list_checkpoints,
    publish_best,
    read_best,
    save_checkpoint,
    save_finished,
)
from kdcache.train.failure import failure_file, read_failure, write_failure
from kdcache.train.launch import run_training
from kdcache.train.loop import Trainer
from kdcache.train.metrics import FILE, REPORT, append_metrics, drop_metrics_after, read_metrics
from kdcache.train.objective import NonFiniteLossError
from kdcache.train.settings import TrainSettings
from kdcache.train.world import World

if TYPE_CHECKING:
    from pathlib import Path

    from kdcache.student import TransducerStudent

SMALL = {"hidden": 16, "layers": 1, "heads": 2, "feed_forward": 2, "joint": 16,
         "subsampling_channels": 4}  # fmt: skip


@pytest.fixture(scope="module")
def student(tones: Path) -> TransducerStudent:
    return build_student(StudentSettings.model_validate(SMALL), load_tokenizer(tones / "tokenizer"))


def settings_of(tones: Path, out: Path, **changes: Any) -> TrainSettings:
    values: dict[str, Any] = {
        "out": out,
        "data": {"corpus": tones / "train.jsonl", "tokenizer": tones / "tokenizer"},
        "student": SMALL,
        "optim": {"steps": 2},
        "batch_seconds": 4.0,
    }
    return TrainSettings.model_validate(values | changes)


class KilledError(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("moment", range(4))
def test_a_kill_while_it_is_written_leaves_the_one_before(
    student: TransducerStudent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    save_checkpoint(tmp_path, 1, student, {"step": 1})

    def killed(*_: Any, **__: Any) -> None:
        raise KilledError

    steps = [(module, "save_student"), (torch, "save"), (os, "fsync"), (type(tmp_path), "rename")]
    with monkeypatch.context() as patch:
        patch.setattr(*steps[moment], killed)
        with pytest.raises(KilledError):
            save_checkpoint(tmp_path, 2, student, {"step": 2})
    (found,) = list_checkpoints(tmp_path)
    assert found.training_state() == {"step": 1}
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2
    clear_leavings(tmp_path)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000001"]


def test_it_is_on_the_disk_before_it_has_its_name(
    student: TransducerStudent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a node that is lost leaves a whole name with empty files."""
    done: list[str] = []
    flush, rename = module._flush, type(tmp_path).rename
    monkeypatch.setattr(module, "_flush", lambda path: (done.append(path.name), flush(path)))
    monkeypatch.setattr(
        type(tmp_path), "rename", lambda self, to: (done.append("renamed"), rename(self, to))
    )
    save_checkpoint(tmp_path, 1, student, {"step": 1})
    before = done[: done.index("renamed")]
    assert {"training.pt", "model.safetensors", "config.json", "student"} <= set(before)
    assert done[-1] == "checkpoints"


def test_the_newest_are_kept_and_those_that_are_spared(
    student: TransducerStudent, tmp_path: Path
) -> None:
    for step in range(1, 6):
        save_checkpoint(tmp_path, step, student, {"step": step}, keep=2, spare={2})
    assert [found.step for found in list_checkpoints(tmp_path)] == [2, 4, 5]


def test_the_best_is_a_copy(student: TransducerStudent, tmp_path: Path) -> None:
    assert read_best(tmp_path) is None
    save_checkpoint(tmp_path, 3, student, {"step": 3})
    publish_best(tmp_path, 3, {"wer": 0.25})
    assert read_best(tmp_path) == {"step": 3, "wer": 0.25}
    weights = [path / "model.safetensors" for path in (tmp_path / "best",
               tmp_path / "checkpoints" / "step-00000003" / "student")]  # fmt: skip
    assert weights[0].read_bytes() == weights[1].read_bytes()
    publish_best(tmp_path, 9, {"wer": 0.1})
    assert read_best(tmp_path) == {"step": 3, "wer": 0.25}, "the checkpoint of step 9 is gone"


def test_a_damaged_checkpoint_is_named(tones: Path, tmp_path: Path) -> None:
    Trainer(settings_of(tones, tmp_path), World()).run()
    (found,) = list_checkpoints(tmp_path)
    (found.path / "training.pt").write_bytes(b"no")
    with pytest.raises(KdcacheError, match=r"step-00000002 cannot be read .*; delete it"):
        Trainer(settings_of(tones, tmp_path), World())


def test_workers_that_find_different_checkpoints_do_not_train(
    tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(settings_of(tones, tmp_path), World())
    monkeypatch.setattr(World, "largest", lambda self, value: 7.0)
    with pytest.raises(ConfigError, match="a checkpoint of step 7 .* another one of step 0"):
        trainer.run()


def test_metrics_are_cut_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (1, 2, 3):
        append_metrics(tmp_path, {"step": step})

    def killed(*_: Any) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(type(tmp_path), "replace", killed)
        with pytest.raises(KilledError):
            drop_metrics_after(tmp_path, 1)
    assert len(read_metrics(tmp_path)) == 3
    drop_metrics_after(tmp_path, 1)
    assert read_metrics(tmp_path) == [{"step": 1}]


def test_a_finished_run_is_reported_without_its_metrics(tones: Path, tmp_path: Path) -> None:
    settings = settings_of(tones, tmp_path)
    Trainer(settings, World()).run()
    expected = run_training(settings)
    assert expected.steps == 2
    (tmp_path / FILE).unlink()
    assert run_training(settings) == expected
    (tmp_path / REPORT).unlink()
    with pytest.raises(KdcacheError, match="has ended, and its metrics are gone"):
        run_training(settings)


def test_a_run_that_ended_before_there_were_reports(
    student: TransducerStudent, tones: Path, tmp_path: Path
) -> None:
    save_finished(tmp_path, student)
    append_metrics(tmp_path, {"step": 2, "loss": 1.5, "seconds": 4.0, "waiting": 1.0})
    report = run_training(settings_of(tones, tmp_path))
    assert (report.loss, report.stall, report.best) == (1.5, 0.25, None)
    assert json.loads(json.dumps(report.to_dict()))["best"] is None


@pytest.mark.parametrize("kind", [NonFiniteLossError, InputError, KdcacheError])
def test_an_error_comes_back_as_itself(tmp_path: Path, kind: type[KdcacheError]) -> None:
    path = failure_file(tmp_path, "x")
    assert read_failure(path) is None
    assert write_failure(path, kind("What is wrong."))
    found = read_failure(path)
    assert type(found) is kind
    assert found.message == "What is wrong."


def test_a_storage_may_work_again(tmp_path: Path) -> None:
    path = failure_file(tmp_path, "x")
    assert not write_failure(path, StorageError("It did not answer."))
    assert not path.exists()
