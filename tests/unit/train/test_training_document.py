"""Every example of docs/training.md is valid, and its code runs as it stands."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
import yaml

from kdcache.batch import Batch, PosteriorBatch
from kdcache.corpus import load_tokenizer, read_manifest
from kdcache.loss import load_ngram
from kdcache.store import create_or_open
from kdcache.student import build_student, load_student, save_student
from kdcache.student.settings import StudentSettings
from kdcache.testing.samples import TOKENIZER_FILES, sample_packed, sample_spec
from kdcache.train.settings import LossSettings, TrainSettings

if TYPE_CHECKING:
    from torch import Tensor

DOCUMENT = (Path(__file__).parents[3] / "docs" / "training.md").read_text(encoding="utf-8")
CODE = re.findall(r"```python\n(.*?)```", DOCUMENT, re.S)
CONFIGS = re.findall(r"```yaml\n(.*?)```", DOCUMENT, re.S)


def code(name: str) -> str:
    """The example in which ``name`` stands; that of sweeps is run beside those of Ray."""
    (found,) = (text for text in CODE if name in text)
    return found


@pytest.mark.parametrize("number", range(len(CONFIGS)))
def test_the_settings_are_settings(number: int) -> None:
    shown = yaml.safe_load(CONFIGS[number])
    base = {"out": "x", "data": {"cache": "x"}}
    settings = TrainSettings.model_validate({**base, **shown})
    assert set(shown) <= settings.model_fields_set


def test_the_ramp_is_as_it_says() -> None:
    text = next(text for text in CONFIGS if "ramps" in text)
    assert "# 0 for 200 steps, 0.02 from step 700 on" in text
    loss = LossSettings.model_validate(yaml.safe_load(text)["loss"])
    weights = [loss.at(step - 1).lattice_kl for step in (200, 201, 699, 700, 701)]
    assert weights[0] == 0 < weights[1]
    assert weights[2] < weights[3] == weights[4] == 0.02


def test_every_term_of_the_loss_is_described() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", DOCUMENT, re.M)
    floats = {name for name, value in LossSettings() if isinstance(value, float)}
    assert set(rows) == floats - set(LossSettings.OPTIONS)


def test_a_transducer_begins_as_a_ctc_head(
    tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = StudentSettings(
        hidden=16, layers=1, joint=16, subsampling_channels=4, dropout=0, ctc_head=True
    )
    ctc = build_student(sizes, load_tokenizer(tones / "tokenizer"))
    save_student(ctc, tmp_path / "runs" / "ctc" / "student")
    monkeypatch.chdir(tmp_path)
    exec(code("begin_from_ctc"), {})
    begun = load_student(tmp_path / "runs" / "begun")
    assert begun.ctc_head is not None
    assert torch.equal(begun.ctc_head.weight, begun.model.joint.head.weight)
    assert not torch.equal(ctc.model.joint.head.weight, begun.model.joint.head.weight)


def test_views_are_written(tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    for file in tones.glob("*.*"):
        shutil.copy(file, tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    exec(code("iter_views"), {})
    views = read_manifest(tmp_path / "data" / "train-views.jsonl")
    recorded = read_manifest(tones / "train.jsonl")
    assert len(views) == 3 * len(recorded)
    assert {view.audio.speed for view in views} == {1.0, 0.9, 1.1}


def test_the_denominator_is_written(
    tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tones, tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    exec(code("estimate_ngram"), {})
    ngram = load_ngram("runs/denominator.npz")
    assert ngram.order == 3
    assert ngram.tokenizer == load_tokenizer("data/tokenizer").fingerprint


def test_the_loop_learns_from_late_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = sample_spec()
    writer = create_or_open(tmp_path / "runs" / "cache", spec, "zarr", TOKENIZER_FILES)
    packed = [sample_packed(spec, f"utterance-{i}") for i in range(6)]
    writer.commit("unit", packed, [], "attempt")
    monkeypatch.chdir(tmp_path)
    seen: list[Tensor] = []

    def model(batch: Batch) -> tuple[Tensor, Tensor]:
        target = batch.targets["encoder_logits"]
        assert isinstance(target, PosteriorBatch)
        frames = 2 * target.lengths_B
        seen.append(torch.randn(len(batch), int(frames.max()), 100, requires_grad=True))
        return seen[-1], frames

    names: dict[str, Any] = {"model": model}
    exec(code("aligned_posterior_kl"), names)
    assert str(names["ratio"]) == "1/2"
    assert sum(len(logits) for logits in seen) == 6
    assert all(logits.grad is not None and logits.grad.abs().sum() > 0 for logits in seen)
