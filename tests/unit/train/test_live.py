"""Teachers in the process: frozen, in tandem, with a decoder in common; and replayed caches."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from kdcache.corpus import load_tokenizer
from kdcache.errors import ConfigError, TeacherOutputError, TokenizerError
from kdcache.student import build_student, load_student, save_student
from kdcache.student.settings import StudentSettings
from kdcache.teacher import load_teacher
from kdcache.testing.local_cache import write_cache
from kdcache.train.checkpoint import list_checkpoints
from kdcache.train.loop import Trainer
from kdcache.train.metrics import read_metrics
from kdcache.train.settings import TrainSettings
from kdcache.train.world import World

if TYPE_CHECKING:
    from pathlib import Path

SMALL = {"hidden": 16, "layers": 1, "heads": 2, "feed_forward": 2, "joint": 16,
         "subsampling_channels": 4, "joint_kind": "additive"}  # fmt: skip
TEACHER = SMALL | {"hidden": 24}
TANDEM = {"build": TEACHER, "train": True}
SHARED = TANDEM | {"share_decoder": True}


def make_teacher(tones: Path, folder: Path, seed: int = 11, **sizes: Any) -> Path:
    torch.manual_seed(seed)
    settings = StudentSettings.model_validate(TEACHER | sizes)
    return save_student(build_student(settings, load_tokenizer(tones / "tokenizer")), folder)


@pytest.fixture(scope="module")
def teacher(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_teacher(tones, tmp_path_factory.mktemp("live") / "teacher")


def settings_of(tones: Path, out: Path, **changes: Any) -> TrainSettings:
    values: dict[str, Any] = {
        "out": out,
        "data": {"corpus": tones / "train.jsonl", "tokenizer": tones / "tokenizer"},
        "student": SMALL,
        "loss": {"rnnt": 1.0, "encoder_kl": 0.1},
        "optim": {"steps": 6, "warmup": 2, "learning_rate": 2e-3},
        "batch_seconds": 4.0,
        "micro_batches_per_step": 2,
        "checkpoint_every": 3,
        "keep_checkpoints": 9,
    }
    return TrainSettings.model_validate(values | changes)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same(one: Path, other: Path) -> bool:
    a, b = weights_of(one), weights_of(other)
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def interrupted(settings: TrainSettings, at: int) -> None:
    """What a kill after the checkpoint of step ``at`` leaves."""
    Trainer(settings, World()).run()
    shutil.rmtree(settings.out / "student")
    shutil.rmtree(settings.out / "teacher", ignore_errors=True)
    for found in list_checkpoints(settings.out):
        if found.step > at:
            shutil.rmtree(found.path)


def test_a_frozen_teacher_stays_as_it_is(tones: Path, teacher: Path, tmp_path: Path) -> None:
    trainer = Trainer(settings_of(tones, tmp_path, live={"teacher": teacher}), World())
    before = {k: v.clone() for k, v in trainer._live.network.state_dict().items()}
    trainer.run()
    after = trainer._live.network.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    lines = read_metrics(tmp_path)
    assert all(line["encoder_kl"] > 0 and "teacher_loss" not in line for line in lines)
    assert not (tmp_path / "teacher").exists()
    assert all(found.teacher is None for found in list_checkpoints(tmp_path))


def test_in_tandem_both_learn(tones: Path, tmp_path: Path) -> None:
    settings = settings_of(tones, tmp_path, live=TANDEM, optim={"steps": 40, "learning_rate": 5e-3})
    Trainer(settings, World()).run()
    lines = read_metrics(tmp_path)
    assert lines[-1]["teacher_loss"] < 0.8 * lines[0]["teacher_loss"]
    assert lines[-1]["rnnt"] < 0.8 * lines[0]["rnnt"]
    assert load_student(tmp_path / "teacher").model.config.encoder_config.hidden_size == 24
    assert load_teacher(tmp_path / "teacher").spec.targets  # it can fill a cache, too


def test_nothing_of_the_student_s_loss_reaches_its_teacher(tones: Path, tmp_path: Path) -> None:
    """Distillation is in place: without a shared decoder the teacher learns as if it were alone."""
    weights = []
    for name, kl in (("taught", 5.0), ("alone", 0.0)):
        loss = {"rnnt": 1.0, "encoder_kl": kl}
        Trainer(settings_of(tones, tmp_path / name, live=TANDEM, loss=loss), World()).run()
        weights.append(tmp_path / name)
    assert same(weights[0] / "teacher", weights[1] / "teacher")
    assert not same(weights[0] / "student", weights[1] / "student")


def test_through_a_shared_decoder_the_student_moves_its_teacher(
    tones: Path, tmp_path: Path
) -> None:
    for name, live in (("shared", SHARED), ("apart", TANDEM)):
        Trainer(settings_of(tones, tmp_path / name, live=live), World()).run()
    student, teacher = (weights_of(tmp_path / "shared" / x) for x in ("student", "teacher"))
    own, others = (weights_of(tmp_path / "apart" / x) for x in ("student", "teacher"))
    decoder = [key for key in student if key.startswith("decoder.")]
    assert decoder
    assert all(torch.equal(student[key], teacher[key]) for key in decoder)
    assert not any(torch.equal(own[key], others[key]) for key in decoder if "weight" in key)
    assert not same(tmp_path / "shared" / "teacher", tmp_path / "apart" / "teacher")


@pytest.mark.parametrize("live", [TANDEM, SHARED])
def test_both_go_on_where_they_stopped(tones: Path, tmp_path: Path, live: dict[str, Any]) -> None:
    Trainer(settings_of(tones, tmp_path / "whole", live=live), World()).run()
    settings = settings_of(tones, tmp_path / "killed", live=live)
    interrupted(settings, at=3)
    Trainer(settings, World()).run()
    for name in ("student", "teacher"):
        assert same(tmp_path / "whole" / name, tmp_path / "killed" / name)


def test_the_student_is_the_same_but_for_its_targets(
    tones: Path, teacher: Path, tmp_path: Path
) -> None:
    """Weights and dropout are drawn as without a teacher, so that arms differ in that alone."""
    loss = {"rnnt": 1.0, "encoder_kl": 1e-30}
    live = settings_of(tones, tmp_path / "live", live={"teacher": teacher}, loss=loss)
    Trainer(live, World()).run()
    Trainer(settings_of(tones, tmp_path / "bare", loss={"rnnt": 1.0}), World()).run()
    assert same(tmp_path / "live" / "student", tmp_path / "bare" / "student")


def test_what_is_kept_is_what_the_cache_keeps(tones: Path, teacher: Path, tmp_path: Path) -> None:
    target = {"kind": "encoder_logits", "top_k": 2, "codec": "fp16"}
    cache = write_cache(load_teacher(teacher), tones / "train.jsonl", tmp_path / "cache", [target])
    data = {"cache": cache.location, "corpus": tones / "train.jsonl"}
    settings = settings_of(tones, tmp_path / "run", data=data, live={"teacher": teacher})
    (reduction,) = Trainer(settings, World())._live._reductions
    assert reduction.target.settings() == {"top_k": 2}
    own = {"teacher": teacher, "targets": [{"kind": "encoder_logits", "top_p": 0.9}]}
    (reduction,) = Trainer(settings.model_copy(
        update={"live": settings.live.model_validate(own)}), World())._live._reductions  # fmt: skip
    assert reduction.target.top_p == 0.9


def test_mistakes_are_one_sentence(tones: Path, teacher: Path, tmp_path: Path) -> None:
    def trainer(**changes: Any) -> Trainer:
        return Trainer(settings_of(tones, tmp_path / "run", **changes), World())

    with pytest.raises(ConfigError, match=r"needs the target 'encoder_logits', and live.targets"):
        trainer(live={"teacher": teacher, "targets": ["lattice"]})
    with pytest.raises(ConfigError, match=r"cannot share them; give both the same joint"):
        trainer(live=SHARED | {"build": TEACHER | {"joint": 24}})
    relu = SMALL | {"joint_kind": "relu", "ctc_head": True}
    with pytest.raises(TeacherOutputError, match="lacks what target 'encoder_logits' is made of"):
        trainer(live=TANDEM | {"build": relu | {"ctc_head": False}}, student=relu).run()
    other = shutil.copytree(teacher, tmp_path / "other")
    (other / "tokenizer.model").unlink()
    from kdcache.corpus import train_sentencepiece

    train_sentencepiece(["low mid", "hixh mid"], 14, "char").save(other)
    with pytest.raises(TokenizerError, match="live teacher has another tokenizer"):
        trainer(live={"teacher": other})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"live": {}}, "one of `teacher` and `build`"),
        ({"live": {"build": TEACHER}}, "train: true for build"),
        ({"live": {"teacher": "x", "share_decoder": True}}, "train: true for share_decoder"),
        ({"live": {"teacher": "x"}, "loss": {"rnnt": 1.0}}, "should have a term of lattice_kl"),
        ({"student": SMALL | {"joint_kind": "relu"}, "live": TANDEM}, "student.ctc_head: true"),
    ],
)
def test_settings_that_cannot_be(
    tones: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        settings_of(tones, tmp_path, **changes)


def replayed(tones: Path, out: Path, caches: list[Any], steps: list[int]) -> TrainSettings:
    later = [{"cache": c, "from_step": s} for c, s in zip(caches[1:], steps, strict=True)]
    data = {"cache": caches[0], "corpus": tones / "train.jsonl", "replay": later}
    return settings_of(tones, out, data=data)


def test_a_trajectory_is_replayed_and_resumed(tones: Path, tmp_path: Path) -> None:
    """A teacher that is asked at two of its checkpoints teaches as one, and then as the other."""
    caches = []
    for seed in (1, 2):
        folder = make_teacher(tones, tmp_path / f"teacher{seed}", seed)
        place = (tones / "train.jsonl", tmp_path / f"cache{seed}")
        caches.append(write_cache(load_teacher(folder), *place, ["encoder_logits"]).location)
    runs = {
        "first": replayed(tones, tmp_path / "first", caches[:1], []),
        "whole": replayed(tones, tmp_path / "whole", caches, [4]),
        "killed": replayed(tones, tmp_path / "killed", caches, [4]),
    }
    for name in ("first", "whole"):
        Trainer(runs[name], World()).run()
    interrupted(runs["killed"], at=3)
    Trainer(runs["killed"], World()).run()
    assert same(tmp_path / "whole" / "student", tmp_path / "killed" / "student")
    first, whole = (read_metrics(tmp_path / name) for name in ("first", "whole"))
    assert [line["encoder_kl"] for line in first[:4]] == [line["encoder_kl"] for line in whole[:4]]
    assert first[4]["rnnt"] == whole[4]["rnnt"]
    assert first[4]["encoder_kl"] != whole[4]["encoder_kl"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"cache": "a", "replay": [{"cache": "b", "from_step": 3}] * 2}, "in order of from_step"),
        (
            {"cache": "a", "replay": [{"cache": "b", "from_step": 3}], "disk_cache": "d"},
            "no `disk_cache`",
        ),
    ],
)
def test_replays_that_cannot_be(
    tones: Path, tmp_path: Path, data: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        settings_of(tones, tmp_path, data=data)
