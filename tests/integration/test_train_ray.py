"""Teacher → cache → student, each through Ray, on a tiny corpus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from kdcache.corpus import load_tokenizer, read_manifest
from kdcache.errors import ConfigError, TokenizerError
from kdcache.extract import ExtractConfig, run_extract
from kdcache.score import score_student
from kdcache.store import open_cache
from kdcache.student import load_student
from kdcache.testing.small_teachers import save_small_transducer
from kdcache.train import TrainSettings, run_training
from kdcache.train.launch import prepare
from kdcache.train.metrics import read_metrics

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

SMALL = {"hidden": 16, "layers": 1, "heads": 2, "feed_forward": 2, "joint": 16,
         "subsampling_channels": 4}  # fmt: skip


@pytest.fixture(scope="module")
def cache(tones: Path, tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Path:
    """A cache of the tones, by a random teacher with the tones' tokenizer."""
    folder = tmp_path_factory.mktemp("work")
    teacher = save_small_transducer(folder / "teacher", load_tokenizer(tones / "tokenizer"))
    config = ExtractConfig.model_validate(
        {
            "teacher": {"path": teacher, "device": "cpu"},
            "corpus": tones / "train.jsonl",
            "cache": {"path": str(folder / "cache"), "audio": "flac"},
            "targets": ["lattice"],
            "actors": 1,
        }
    )
    assert run_extract(config).complete
    return folder / "cache"


def settings_of(cache: Path, out: Path, **changes: Any) -> TrainSettings:
    values: dict[str, Any] = {
        "out": out,
        "data": {"cache": cache},
        "student": SMALL,
        "loss": {"lattice_kl": 0.05},
        "optim": {"steps": 5, "warmup": 2, "learning_rate": 2e-3},
        "batch_seconds": 4.0,
        "micro_batches_per_step": 2,
    }
    return TrainSettings.model_validate(values | changes)


def test_one_and_two_workers_train_the_same_student(cache: Path, tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []
    report = run_training(settings_of(cache, tmp_path / "one"), seen.append)
    run_training(settings_of(cache, tmp_path / "two", workers=2))
    one, two = read_metrics(tmp_path / "one"), read_metrics(tmp_path / "two")
    assert [line["step"] for line in one] == [1, 2, 3, 4, 5]
    for name in ("loss", "rnnt", "lattice_kl", "gradient_norm"):
        assert [line[name] for line in two] == pytest.approx([line[name] for line in one], rel=1e-3)
    assert seen == one
    assert report.loss == one[-1]["loss"]


def test_the_student_is_scored(cache: Path, tones: Path, tmp_path: Path) -> None:
    report = run_training(settings_of(cache, tmp_path / "run"))
    weights = report.student / "model.safetensors"
    utterances = read_manifest(tones / "train.jsonl")
    score = score_student(load_student(report.student), utterances, weights=weights)
    assert score.utterances == len(utterances) == len(open_cache(cache))
    assert score.bytes == weights.stat().st_size
    assert set(score.hypotheses) == {utterance.id for utterance in utterances}


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_workers_error_comes_back_as_itself(cache: Path, tmp_path: Path, workers: int) -> None:
    """And soon: Ray may try fifty times, and would need minutes."""
    from kdcache.train.objective import NonFiniteLossError

    optim = {"steps": 50, "warmup": 0, "learning_rate": 1e30, "clip_norm": 1e30}
    settings = settings_of(cache, tmp_path / "run", optim=optim, max_failures=50, workers=workers)
    with pytest.raises(NonFiniteLossError, match="tone-"):
        run_training(settings)
    assert not list((tmp_path / "run").glob(".failed-*"))


def test_another_tokenizer_is_refused_before_ray_starts(cache: Path, tmp_path: Path) -> None:
    from kdcache.corpus import train_sentencepiece

    train_sentencepiece(["other words than those"], 20, "char").save(tmp_path / "tokenizer")
    data = {"cache": cache, "tokenizer": tmp_path / "tokenizer"}
    with pytest.raises(TokenizerError, match="is not the one of the cache"):
        prepare(settings_of(cache, tmp_path / "run", data=data))


def test_a_target_that_the_cache_lacks_is_refused(cache: Path, tmp_path: Path) -> None:
    student = {**SMALL, "ctc_head": True}
    settings = settings_of(cache, tmp_path / "run", student=student, loss={"encoder_kl": 0.1})
    with pytest.raises(ConfigError, match="holds no target 'encoder_logits'; it has lattice"):
        prepare(settings)
