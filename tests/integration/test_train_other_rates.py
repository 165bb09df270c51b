"""Teacher → cache → student in this process, with another frame rate than the teacher's.

The teacher is an untrained student that was saved; the corpus has views, noise is added, shifts
are chosen and a ramp is under way. What must hold: what is logged is finite and complete, and a
run that was killed ends as one that was not.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from kdcache.corpus import load_tokenizer, read_manifest
from kdcache.corpus.views import iter_views
from kdcache.errors import ConfigError, SpecMismatchError
from kdcache.extract.plan import cut_batches, make_unit
from kdcache.extract.targets import bind_targets
from kdcache.extract.worker import UnitWorker
from kdcache.store import CacheSpec, create_or_open
from kdcache.student import build_student, save_student
from kdcache.student.settings import StudentSettings
from kdcache.target import target_spec
from kdcache.teacher import load_teacher
from kdcache.testing.samples import sample_packed, sample_spec
from kdcache.train.launch import prepare
from kdcache.train.loop import Trainer
from kdcache.train.metrics import read_metrics
from kdcache.train.settings import TrainSettings
from kdcache.train.world import World

if TYPE_CHECKING:
    from pathlib import Path

SMALL = {"hidden": 16, "layers": 1, "heads": 2, "feed_forward": 2, "joint": 16,
         "subsampling_channels": 4, "ctc_head": True}  # fmt: skip
TARGETS = ("lattice", "encoder_logits")


@pytest.fixture(scope="module")
def caches(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """By subsampling of the teacher: a cache of eight tones and of each a slower view."""
    folder = tmp_path_factory.mktemp("caches")
    return {factor: extract(tones, folder / str(factor), factor) for factor in (4, 8)}


def extract(tones: Path, folder: Path, subsampling: int) -> Path:
    torch.manual_seed(0)
    settings = StudentSettings.model_validate({**SMALL, "subsampling": subsampling})
    student = build_student(settings, load_tokenizer(tones / "tokenizer"))
    teacher = load_teacher(save_student(student, folder / "teacher"))
    specs = tuple(target_spec(target) for target in TARGETS)
    spec = CacheSpec(teacher.spec, teacher.tokenizer.fingerprint, specs).normalised()
    corpus = list(iter_views(read_manifest(tones / "train.jsonl")[:8], [1.0, 0.9]))
    unit = make_unit(spec.spec_hash, cut_batches(corpus, 10.0))
    result = UnitWorker(teacher, bind_targets(specs, teacher.spec)).run(unit)
    assert not result.failed
    writer = create_or_open(folder / "cache", spec, "zarr", teacher.tokenizer.files())
    writer.commit(unit.key, result.packed, (), "attempt")
    return folder / "cache"


def settings_of(cache: Path, tones: Path, out: Path, **changes: Any) -> TrainSettings:
    values: dict[str, Any] = {
        "out": out,
        "data": {"cache": cache, "corpus": tones / "train.jsonl"},
        "student": {**SMALL, "subsampling": 4},
        "loss": {
            "lattice_kl": 0.05,
            "encoder_kl": 0.5,
            "ramps": {"lattice_kl": {"start": 1, "steps": 2}},
        },
        "align": {"time_shift": {"encoder_kl": {"max": 2}, "lattice_kl": 1}},
        "noise": [10, 20],
        "optim": {"steps": 4, "warmup": 1, "learning_rate": 2e-3},
        "batch_seconds": 6.0,
        "checkpoint_every": 2,
    }
    return TrainSettings.model_validate(values | changes)


@pytest.mark.parametrize(("teacher", "student"), [(4, 8), (8, 4), (4, 4)])
def test_a_student_of_another_rate_is_trained(
    caches: dict[int, Path], tones: Path, tmp_path: Path, teacher: int, student: int
) -> None:
    sizes = {**SMALL, "subsampling": student}
    settings = settings_of(caches[teacher], tones, tmp_path / "run", student=sizes)
    Trainer(settings, World()).run()
    lines = read_metrics(tmp_path / "run")
    assert ["lattice_kl" in line for line in lines] == [False, True, True, True]
    weights = [settings.loss.at(step).weights() for step in range(4)]
    assert weights[2]["lattice_kl"] == 0.05 == 2 * weights[1]["lattice_kl"]
    for line, weight in zip(lines, weights, strict=True):
        expected = sum(weight[name] * line[name] for name in weight)
        assert line["loss"] == pytest.approx(expected)
        assert 0 < line["encoder_kl"] < 1e4


class KilledError(Exception):
    """Stands for a kill."""


def test_a_killed_run_ends_as_an_undisturbed_one(
    caches: dict[int, Path], tones: Path, tmp_path: Path
) -> None:
    def killed(values: dict[str, Any]) -> None:
        if values["step"] == 2:
            raise KilledError

    Trainer(settings_of(caches[8], tones, tmp_path / "whole"), World()).run()
    broken = settings_of(caches[8], tones, tmp_path / "broken")
    with pytest.raises(KilledError):
        Trainer(broken, World(), killed).run()
    Trainer(broken, World()).run()
    whole, again = (
        [line["loss"] for line in read_metrics(tmp_path / run)] for run in ("whole", "broken")
    )
    assert len(whole) == 4
    assert whole == again


def test_a_ratio_that_is_set_counts(caches: dict[int, Path], tones: Path, tmp_path: Path) -> None:
    settings = settings_of(
        caches[8], tones, tmp_path / "run", align={"frame_ratio": "1/1"}, loss={"encoder_kl": 1.0}
    )
    with pytest.raises(SpecMismatchError, match="'tone-.*frames and the student .*expected 1/1"):
        Trainer(settings, World()).run()


def test_rates_that_do_not_fit_are_found_before_anything_starts(
    tones: Path, tmp_path: Path
) -> None:
    cache, tokenizer = tmp_path / "cache", load_tokenizer(tones / "tokenizer")
    spec = replace(sample_spec(audio="flac"), tokenizer=tokenizer.fingerprint)
    odd = replace(spec, teacher=replace(spec.teacher, frame_shift=0.03))
    writer = create_or_open(cache, odd, "zarr", tokenizer.files())
    writer.commit("unit", [sample_packed(odd, "a")], [], "attempt")
    settings = settings_of(cache, tones, tmp_path / "run", data={"cache": cache})
    with pytest.raises(ConfigError, match=r"every 0\.03 s and the student one every 0\.04 s"):
        prepare(settings)


def test_both_say_the_same_of_the_student_s_rate(tones: Path) -> None:
    for factor in (2, 4, 8):
        settings = StudentSettings.model_validate({**SMALL, "subsampling": factor})
        student = build_student(settings, load_tokenizer(tones / "tokenizer"))
        assert student.frame_shift == pytest.approx(settings.frame_shift) == factor / 100
