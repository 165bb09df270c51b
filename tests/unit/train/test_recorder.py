"""Metrics as lines of JSON and as TensorBoard's event files."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from kdcache.errors import MissingDependencyError
from kdcache.train.launch import prepare
from kdcache.train.loop import Trainer
from kdcache.train.metrics import VALIDATION, read_metrics, read_report
from kdcache.train.recorder import Recorder
from kdcache.train.settings import TrainSettings
from kdcache.train.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SMALL = {"hidden": 16, "layers": 1, "heads": 2, "feed_forward": 2, "joint": 16,
         "subsampling_channels": 4}  # fmt: skip


def settings_of(tones: Path, out: Path, **changes: Any) -> TrainSettings:
    values: dict[str, Any] = {
        "out": out,
        "data": {"corpus": tones / "train.jsonl", "tokenizer": tones / "tokenizer"},
        "student": SMALL,
        "optim": {"steps": 3},
        "batch_seconds": 4.0,
        "validation": {"corpus": tones / "train.jsonl", "every": 3},
        "tensorboard": True,
    }
    return TrainSettings.model_validate(values | changes)


def events(out: Path) -> Iterator[Any]:
    """What event files hold: a length, its checksum, an event, its checksum, and so on."""
    from tensorboardX.proto.event_pb2 import Event

    for path in sorted((out / "tensorboard").iterdir()):
        data, at = path.read_bytes(), 0
        while at < len(data):
            length = int.from_bytes(data[at : at + 8], "little")
            yield Event.FromString(data[at + 12 : at + 12 + length])
            at += length + 16


def curves(out: Path) -> dict[str, list[tuple[int, float]]]:
    """By name, steps and values."""
    found: dict[str, list[tuple[int, float]]] = {}
    for event in events(out):
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def test_both_say_the_same(tones: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    Trainer(settings_of(tones, tmp_path), World()).run()
    lines, found = read_metrics(tmp_path), curves(tmp_path)
    shown = {"loss", "rnnt", "learning_rate", "gradient_norm", "stall", "utterances_per_second",
             "audio_per_second"}  # fmt: skip
    for name in shown:
        expected = [(line["step"], pytest.approx(line[name])) for line in lines]
        assert found[f"train/{name}"] == expected
    (tried,) = read_metrics(tmp_path, file=VALIDATION)
    assert found["validation/wer"] == [(3, pytest.approx(tried["wer"]))]
    assert all(line["utterances_per_second"] > 0 for line in lines)
    assert read_report(tmp_path) == lines[-1]


def test_a_resumed_run_hides_what_came_after_its_checkpoint(tones: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    settings = settings_of(tones, tmp_path)
    first = Recorder(settings, 0, writes=True)
    for step in (1, 2, 3):
        first.step({"step": step, "loss": 9.0})
    second = Recorder(settings, 1, writes=True)
    second.step({"step": 2, "loss": 1.0})
    second.finish()
    assert [(line["step"], line["loss"]) for line in read_metrics(tmp_path)] == [(1, 9.0), (2, 1.0)]
    assert (2, 1.0) in curves(tmp_path)["train/loss"]
    starts = [event.step for event in events(tmp_path) if event.HasField("session_log")]
    assert starts == [1, 2], "from where on TensorBoard forgets what it read before"


def test_other_workers_write_nothing(tones: Path, tmp_path: Path) -> None:
    recorder = Recorder(settings_of(tones, tmp_path / "run"), 0, writes=False)
    recorder.step({"step": 1, "loss": 2.0})
    recorder.validation({"step": 1, "loss": 3.0})
    recorder.finish()
    assert recorder.last["loss"] == 2.0
    assert not (tmp_path / "run").exists()


def test_what_is_missing_is_said_before_anything_starts(
    tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(MissingDependencyError, match="needs the package tensorboardX"):
        prepare(settings_of(tones, tmp_path))
    prepare(settings_of(tones, tmp_path, tensorboard=False))
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 0
