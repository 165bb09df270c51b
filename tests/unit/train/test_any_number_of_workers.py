"""One, two and three workers, which do not divide a step, train and validate the same student.

Real processes and real messages; Ray is left out, so that it is quick.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file

from kdcache.train.metrics import VALIDATION, read_metrics

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[3]
SMALL = {"hidden": 16, "layers": 1, "heads": 2, "feed_forward": 2, "joint": 16,
         "subsampling_channels": 4, "ctc_head": True}  # fmt: skip
"""Its CTC head has no part in the loss."""
SIZES = (1, 2, 3)
STOPPED = "two, stopped"
"""A run of two workers, of which the first is told to stop half-way."""


def settings_of(tones: Path, out: Path, workers: int, **changes: Any) -> dict[str, Any]:
    data = {"corpus": str(tones / "train.jsonl"), "tokenizer": str(tones / "tokenizer")}
    return {
        "out": str(out),
        "data": data,
        "student": SMALL,
        "optim": {"steps": 6, "warmup": 2, "learning_rate": 5e-3},
        "batch_seconds": 2.5,
        "micro_batches_per_step": 4,
        "workers": workers,
        "noise": [10, 30],
        "validation": {"corpus": data["corpus"], "every": 4, "metric": "loss"},
        **changes,
    }


@pytest.fixture(scope="module")
def runs(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[int | str, Path]:
    """The same run by each number of workers, and stopped."""
    folder = tmp_path_factory.mktemp("gloo")
    found: dict[int | str, Path] = {run: folder / str(run) for run in (*SIZES, STOPPED)}
    values = [settings_of(tones, found[size], size) for size in SIZES]
    values.append({**settings_of(tones, found[STOPPED], 2), "stop_after": 3})
    files = [f"{each['out']}.json" for each in values]
    for file, each in zip(files, values, strict=True):
        Path(file).write_text(json.dumps(each))
    command = [sys.executable, "-m", "tests.unit.train.gloo_run"]
    result = subprocess.run(
        command + files, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return found


def curve(lines: list[dict[str, Any]], name: str) -> list[float]:
    return [line[name] for line in lines]


def audio(lines: list[dict[str, Any]]) -> list[float]:
    """Seconds of each step's audio; times are rounded in the metrics."""
    return [line["audio_per_second"] * line["step_seconds"] for line in lines]


@pytest.mark.parametrize("run", [*SIZES[1:], STOPPED])
def test_the_loss_curve_is_the_same(runs: Mapping[int | str, Path], run: int | str) -> None:
    one, many = read_metrics(runs[1]), read_metrics(runs[run])
    assert [line["step"] for line in one] == list(range(1, 7))
    assert one[0]["epoch"] < one[-1]["epoch"], "with a last step of an epoch that is not full"
    for name in ("loss", "rnnt", "gradient_norm"):
        assert curve(many, name) == pytest.approx(curve(one, name), rel=1e-4)
    assert audio(many) == pytest.approx(audio(one), rel=0.05)


@pytest.mark.parametrize("size", SIZES[1:])
def test_validations_are_the_same(runs: Mapping[int | str, Path], size: int) -> None:
    """Each with its own share of the utterances, and statistics of all."""
    one, many = (read_metrics(runs[n], file=VALIDATION) for n in (1, size))
    assert [line["step"] for line in many] == [4, 6]
    for name in ("loss", "wer"):
        assert curve(many, name) == pytest.approx(curve(one, name), rel=1e-4)


@pytest.mark.parametrize("size", SIZES[1:])
def test_running_statistics_are_the_same(runs: Mapping[int | str, Path], size: int) -> None:
    one, many = (load_file(runs[n] / "student" / "model.safetensors") for n in (1, size))
    # Not the means: the bias before a batch norm is of no effect, and drifts by rounding.
    names = [name for name in one if "running_var" in name or "num_batches" in name]
    assert any(not torch.allclose(one[name].float(), torch.ones(())) for name in names)
    for name in names:
        torch.testing.assert_close(many[name], one[name], rtol=1e-3, atol=1e-5)
    batches = {int(one[name]) for name in names if "num_batches" in name}
    assert len(batches) == 1
    assert batches.pop() > 6 * 3, "all micro-batches of each step, whoever had them"


@pytest.mark.parametrize("size", SIZES[1:])
def test_what_has_no_part_in_the_loss_is_left_alone(
    runs: Mapping[int | str, Path], size: int
) -> None:
    one, many = (load_file(runs[n] / "student" / "ctc_head.safetensors") for n in (1, size))
    assert one
    for name, weight in one.items():
        assert torch.equal(many[name], weight)
