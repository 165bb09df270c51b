"""A student is tried while it learns: the best is kept, and a run that learns no more ends."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch

from kdcache.corpus import read_manifest, write_manifest
from kdcache.errors import ConfigError, InputError
from kdcache.score import score_student
from kdcache.student import load_student
from kdcache.train.best import Best
from kdcache.train.checkpoint import list_checkpoints, read_best
from kdcache.train.launch import prepare
from kdcache.train.loop import Trainer
from kdcache.train.metrics import VALIDATION, read_metrics
from kdcache.train.settings import TrainSettings
from kdcache.train.world import World

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SMALL = {"hidden": 16, "layers": 1, "heads": 2, "feed_forward": 2, "joint": 16,
         "subsampling_channels": 4}  # fmt: skip


@pytest.fixture(scope="module")
def dev(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five of the tones."""
    path = tmp_path_factory.mktemp("dev") / "dev.jsonl"
    write_manifest(path, list(read_manifest(tones / "train.jsonl"))[:5])
    return path


def settings_of(tones: Path, dev: Path, out: Path, **changes: Any) -> TrainSettings:
    validation = {"corpus": dev, "every": 2, **changes.pop("validation", {})}
    values: dict[str, Any] = {
        "out": out,
        "data": {"corpus": tones / "train.jsonl", "tokenizer": tones / "tokenizer"},
        "student": SMALL,
        "optim": {"steps": 6, "warmup": 2, "learning_rate": 2e-3},
        "batch_seconds": 4.0,
        "checkpoint_every": 4,
        "validation": validation,
    }
    return TrainSettings.model_validate(values | changes)


def scripted(
    trainer: Trainer, values: list[float], monkeypatch: pytest.MonkeyPatch
) -> Callable[[Any], dict[str, float]]:
    """A validator that gives these values, by the step that it is asked at."""

    def run(student: object) -> dict[str, float]:
        return {"loss": values[trainer.step // 2 - 1], "wer": 0.5}

    monkeypatch.setattr(trainer._validator, "run", run)
    return run


def test_it_says_what_scoring_says(tones: Path, dev: Path, tmp_path: Path) -> None:
    settings = settings_of(tones, dev, tmp_path, optim={"steps": 30, "learning_rate": 1e-2},
                           validation={"every": 30}, micro_batches_per_step=1)  # fmt: skip
    told: list[dict[str, Any]] = []
    student = Trainer(settings, World(), told.append).run()
    (line,) = read_metrics(tmp_path, file=VALIDATION)
    score = score_student(load_student(student), list(read_manifest(dev)))
    assert line["wer"] == pytest.approx(score.wer.wer)
    assert line["loss"] == line["rnnt"] > 0
    assert told[-1]["validation/wer"] == line["wer"]
    assert told[-1]["step"] == 30


def test_the_best_is_kept(
    tones: Path, dev: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(
        tones, dev, tmp_path, validation={"metric": "loss"}, keep_checkpoints=1, checkpoint_every=1
    )
    trainer = Trainer(settings, World())
    scripted(trainer, [5.0, 3.0, 4.0], monkeypatch)
    trainer.run()
    assert read_best(tmp_path) == {"step": 4, "loss": 3.0, "wer": 0.5}
    assert [found.step for found in list_checkpoints(tmp_path)] == [4, 6]
    best, last = (load_student(tmp_path / name) for name in ("best", "student"))
    kept = load_student(list_checkpoints(tmp_path)[0].student)
    name = "model.joint.head.weight"
    assert torch.equal(best.state_dict()[name], kept.state_dict()[name])
    assert not torch.equal(best.state_dict()[name], last.state_dict()[name])


def test_a_run_that_learns_no_more_ends(
    tones: Path, dev: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = {"metric": "loss", "patience": 2, "min_delta": 0.5}
    settings = settings_of(tones, dev, tmp_path, validation=patient, optim={"steps": 40})
    trainer = Trainer(settings, World())
    scripted(trainer, [5.0, 4.8, 4.7, 0.0], monkeypatch)
    trainer.run()
    assert trainer.step == 6
    assert (tmp_path / "student").is_dir()
    best = read_best(tmp_path)
    assert best is not None
    assert best["step"] == 6, "the best is the smallest, however small the difference"
    (tmp_path / "student").rename(tmp_path / "gone")
    again = Trainer(settings, World())
    again.run()
    assert again.step == 6, "a kill after the decision does not undo it"


class KilledError(Exception):
    """Stands for a kill."""


def test_a_killed_run_has_the_same_validations_and_the_same_best(
    tones: Path, dev: Path, tmp_path: Path
) -> None:
    def killed(values: dict[str, Any]) -> None:
        if values["step"] == 4:
            raise KilledError

    whole = settings_of(tones, dev, tmp_path / "whole", validation={"metric": "loss"})
    Trainer(whole, World()).run()
    broken = settings_of(tones, dev, tmp_path / "broken", validation={"metric": "loss"})
    with pytest.raises(KilledError):
        Trainer(broken, World(), killed).run()
    shutil.rmtree(tmp_path / "broken" / "best")  # killed while it was written
    resumed = Trainer(broken, World())
    assert resumed.best.step == 4
    assert (read_best(tmp_path / "broken") or {})["step"] == 4
    resumed.run()
    runs = [tmp_path / "whole", tmp_path / "broken"]
    lines = [read_metrics(run, file=VALIDATION) for run in runs]
    assert lines[0] == lines[1]
    assert [line["step"] for line in lines[0]] == [2, 4, 6]
    assert read_best(runs[0]) == read_best(runs[1])


def test_trying_does_not_change_what_is_learnt(tones: Path, dev: Path, tmp_path: Path) -> None:
    plain = settings_of(tones, dev, tmp_path / "plain").model_copy(update={"validation": None})
    Trainer(plain, World()).run()
    Trainer(settings_of(tones, dev, tmp_path / "tried"), World()).run()
    lines = [read_metrics(tmp_path / name) for name in ("plain", "tried")]
    for name in ("loss", "gradient_norm"):
        assert [line[name] for line in lines[0]] == [line[name] for line in lines[1]]


def test_a_checkpoint_from_before_validation_was_there_is_taken_up(
    tones: Path, dev: Path, tmp_path: Path
) -> None:
    trainer = Trainer(settings_of(tones, dev, tmp_path), World())
    state = {
        "step": 3,
        "stream": trainer.stream.state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
    }
    trainer._restore(state)
    assert (trainer.step, trainer.best) == (3, Best())


@pytest.mark.parametrize(
    ("validation", "message"),
    [
        ({"metric": "lattice_kl"}, "should have validation.metric one of loss, rnnt, wer"),
        ({"metric": "wer", "decode": False}, "should have decode: true for metric: wer"),
        ({"corpus": None}, "should have `cache` or `corpus`"),
    ],
)
def test_impossible_settings_are_refused(
    tones: Path, dev: Path, tmp_path: Path, validation: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        settings_of(tones, dev, tmp_path, validation=validation)


def test_what_is_not_there_is_found_before_anything_starts(
    tones: Path, dev: Path, tmp_path: Path
) -> None:
    missing = settings_of(tones, dev, tmp_path / "run", validation={"corpus": "none.jsonl"})
    with pytest.raises(InputError, match=r"none\.jsonl"):
        prepare(missing)
    assert not (tmp_path / "run").exists()


def test_another_validation_is_another_run(tones: Path, dev: Path, tmp_path: Path) -> None:
    prepare(settings_of(tones, dev, tmp_path))
    prepare(settings_of(tones, dev, tmp_path, keep_checkpoints=7, tensorboard=True))
    with pytest.raises(ConfigError, match="holds a run with validation = "):
        prepare(settings_of(tones, dev, tmp_path, validation={"every": 3}))


def test_nothing_to_try_is_an_error(tones: Path, dev: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    settings = settings_of(
        tones, dev, tmp_path / "run", validation={"corpus": tmp_path / "empty.jsonl"}
    )
    with pytest.raises(InputError, match="holds no utterance"):
        Trainer(settings, World())
