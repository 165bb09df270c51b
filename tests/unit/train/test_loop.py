"""The training loop by itself: it learns, it resumes exactly, and it says what is wrong."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch

from kdcache.errors import ConfigError
from kdcache.train.checkpoint import list_checkpoints
from kdcache.train.launch import prepare
from kdcache.train.loop import Trainer
from kdcache.train.metrics import append_metrics, read_metrics
from kdcache.train.optim import learning_rate
from kdcache.train.settings import OptimSettings, TrainSettings
from kdcache.train.world import World

if TYPE_CHECKING:
    from pathlib import Path

SMALL = {"hidden": 16, "layers": 1, "heads": 2, "feed_forward": 2, "joint": 16,
         "subsampling_channels": 4}  # fmt: skip


def settings_of(tones: Path, out: Path, **changes: Any) -> TrainSettings:
    values: dict[str, Any] = {
        "out": out,
        "data": {"corpus": tones / "train.jsonl", "tokenizer": tones / "tokenizer"},
        "student": SMALL,
        "optim": {"steps": 6, "warmup": 2, "learning_rate": 2e-3},
        "batch_seconds": 4.0,
        "micro_batches_per_step": 2,
        "checkpoint_every": 3,
    }
    return TrainSettings.model_validate(values | changes)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def test_writes_a_student_that_loads_again(tones: Path, tmp_path: Path) -> None:
    from kdcache.student import load_student

    folder = Trainer(settings_of(tones, tmp_path), World()).run()
    student = load_student(folder)
    assert not student.training
    assert {"config.json", "model.safetensors", "tokenizer.model"} <= {
        path.name for path in folder.iterdir()
    }


def test_metrics_have_a_line_a_step(tones: Path, tmp_path: Path) -> None:
    Trainer(settings_of(tones, tmp_path), World()).run()
    lines = read_metrics(tmp_path)
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert all(line["loss"] == pytest.approx(line["rnnt"]) for line in lines)


class KilledError(Exception):
    """Stands for a kill."""


def stop_at(step: int) -> Any:
    def report(values: dict[str, Any]) -> None:
        if values["step"] == step:
            raise KilledError

    return report


def test_a_killed_run_ends_as_an_undisturbed_one(tones: Path, tmp_path: Path) -> None:
    whole = Trainer(settings_of(tones, tmp_path / "whole"), World()).run()
    broken = settings_of(tones, tmp_path / "broken")
    with pytest.raises(KilledError):
        Trainer(broken, World(), stop_at(3)).run()
    resumed = Trainer(broken, World())
    assert resumed.step == 3
    final = resumed.run()
    expected, found = weights_of(whole), weights_of(final)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    losses = [
        [line["loss"] for line in read_metrics(tmp_path / run)] for run in ("whole", "broken")
    ]
    assert losses[0] == losses[1]


def test_a_run_that_is_told_to_stop_keeps_the_step_that_it_has_done(
    tones: Path, tmp_path: Path
) -> None:
    whole = Trainer(settings_of(tones, tmp_path / "whole"), World()).run()
    told = settings_of(tones, tmp_path / "told", checkpoint_every=100)
    first = Trainer(told, World(), stop=lambda: first.step == 4)
    assert not first.run().exists()
    assert [checkpoint.step for checkpoint in list_checkpoints(told.out)] == [4]
    final = Trainer(told, World()).run()
    expected, found = weights_of(whole), weights_of(final)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert [line["step"] for line in read_metrics(told.out)] == [1, 2, 3, 4, 5, 6]


def test_a_wish_to_stop_after_the_last_step_comes_too_late(tones: Path, tmp_path: Path) -> None:
    trainer = Trainer(settings_of(tones, tmp_path), World(), stop=lambda: trainer.step == 6)
    assert (trainer.run() / "model.safetensors").is_file()


def test_the_same_seed_gives_the_same_weights_and_another_does_not(
    tones: Path, tmp_path: Path
) -> None:
    runs = [
        weights_of(Trainer(settings_of(tones, tmp_path / str(i), seed=seed), World()).run())
        for i, seed in enumerate((1, 1, 2))
    ]
    name = "joint.head.weight"
    assert torch.equal(runs[0][name], runs[1][name])
    assert not torch.equal(runs[0][name], runs[2][name])


def test_it_learns(tones: Path, tmp_path: Path) -> None:
    optim = {"steps": 60, "warmup": 5, "learning_rate": 5e-3}
    settings = settings_of(tones, tmp_path, optim=optim, augment=False, micro_batches_per_step=1)
    Trainer(settings, World()).run()
    losses = [line["loss"] for line in read_metrics(tmp_path)]
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])


def test_keeps_the_newest_checkpoints_only(tones: Path, tmp_path: Path) -> None:
    Trainer(settings_of(tones, tmp_path, checkpoint_every=1), World()).run()
    assert [checkpoint.step for checkpoint in list_checkpoints(tmp_path)] == [5, 6]


def test_a_run_killed_before_its_first_checkpoint_starts_its_log_anew(
    tones: Path, tmp_path: Path
) -> None:
    append_metrics(tmp_path, {"step": 1, "loss": 99.0})
    append_metrics(tmp_path, {"step": 2, "loss": 99.0})
    Trainer(settings_of(tones, tmp_path, optim={"steps": 3}), World()).run()
    lines = read_metrics(tmp_path)
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert all(line["loss"] != 99.0 for line in lines)


def test_a_half_written_checkpoint_is_not_seen(tones: Path, tmp_path: Path) -> None:
    Trainer(settings_of(tones, tmp_path), World()).run()
    half = tmp_path / "checkpoints" / ".step-00000009.123"
    (half / "student").mkdir(parents=True)
    assert list_checkpoints(tmp_path)[-1].step == 6


def test_a_nan_names_the_utterances(tones: Path, tmp_path: Path) -> None:
    from kdcache.train.objective import NonFiniteLossError

    trainer = Trainer(settings_of(tones, tmp_path), World())
    with torch.no_grad():
        trainer.student.model.joint.head.bias.fill_(float("nan"))
    with pytest.raises(NonFiniteLossError, match="'tone-"):
        trainer.run()
    assert not (tmp_path / "student").exists()


def test_other_settings_do_not_resume(tones: Path, tmp_path: Path) -> None:
    prepare(settings_of(tones, tmp_path))
    prepare(settings_of(tones, tmp_path, workers=2))  # may change: the steps are the same
    with pytest.raises(ConfigError, match="holds a run with seed = 0, and now seed = 3"):
        prepare(settings_of(tones, tmp_path, seed=3))
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 0


def test_a_run_from_before_a_setting_was_there_resumes(tones: Path, tmp_path: Path) -> None:
    prepare(settings_of(tones, tmp_path))
    noted = json.loads((tmp_path / "config.json").read_text())
    del noted["loss"]["rnnt_in_band"], noted["augment"]
    (tmp_path / "config.json").write_text(json.dumps(noted))
    with pytest.raises(ConfigError, match="holds a run with augment = True, and now"):
        prepare(settings_of(tones, tmp_path, augment=False))
    prepare(settings_of(tones, tmp_path))


def test_missing_corpus_is_found_before_anything_starts(tones: Path, tmp_path: Path) -> None:
    from kdcache.errors import InputError

    data = {"corpus": tmp_path / "none.jsonl", "tokenizer": tones / "tokenizer"}
    with pytest.raises(InputError, match=r"none\.jsonl"):
        prepare(settings_of(tones, tmp_path / "run", data=data))


def test_a_cache_without_audio_needs_the_corpus(tones: Path, tmp_path: Path) -> None:
    from kdcache.store import create_or_open
    from kdcache.testing.samples import TOKENIZER_FILES, sample_packed, sample_spec

    spec = sample_spec(audio="none")
    writer = create_or_open(tmp_path / "cache", spec, "zarr", TOKENIZER_FILES)
    writer.commit("unit", [sample_packed(spec, "a")], [], "attempt")
    settings = settings_of(tones, tmp_path / "run", data={"cache": tmp_path / "cache"})
    with pytest.raises(ConfigError, match=r"holds no audio and data\.corpus is not given"):
        prepare(settings)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"micro_batches_per_step": 2, "workers": 3}, "at least as many micro_batches_per_step"),
        ({"loss": {"lattice_kl": 0.1}}, "data.cache"),
        ({"loss": {"ctc": 0.1}}, "ctc_head"),
        ({"data": {}}, "should have `cache`"),
    ],
)
def test_impossible_settings_are_refused(
    tones: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        settings_of(tones, tmp_path, **changes)


def test_learning_rate_rises_then_falls() -> None:
    optim = OptimSettings(steps=100, warmup=10, learning_rate=1.0, final_fraction=0.1)
    rates = [learning_rate(step, optim) for step in range(100)]
    assert rates[:3] == pytest.approx([0.1, 0.2, 0.3])
    assert max(rates) == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert learning_rate(100, optim) == pytest.approx(0.1)
