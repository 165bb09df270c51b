"""bfloat16: the network's products are coarse, and what is learnt is near all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from kdcache.train.loop import Trainer
from kdcache.train.metrics import VALIDATION, read_metrics
from kdcache.train.settings import TrainSettings
from kdcache.train.world import World

if TYPE_CHECKING:
    from pathlib import Path

SMALL = {"hidden": 16, "layers": 1, "heads": 2, "feed_forward": 2, "joint": 16,
         "subsampling_channels": 4, "ctc_head": True, "dropout": 0.0}  # fmt: skip


def settings_of(tones: Path, out: Path, **changes: Any) -> TrainSettings:
    values: dict[str, Any] = {
        "out": out,
        "data": {"corpus": tones / "train.jsonl", "tokenizer": tones / "tokenizer"},
        "student": SMALL,
        "loss": {"ctc": 0.3},
        "optim": {"steps": 8, "warmup": 2, "learning_rate": 2e-3},
        "batch_seconds": 8.0,
        "validation": {"corpus": tones / "train.jsonl", "every": 8},
    }
    return TrainSettings.model_validate(values | changes)


def test_it_learns_nearly_the_same(tones: Path, tmp_path: Path) -> None:
    for precision in ("float32", "bfloat16"):
        settings = settings_of(tones, tmp_path / precision, precision=precision)
        Trainer(settings, World()).run()
    exact, coarse = (read_metrics(tmp_path / name) for name in ("float32", "bfloat16"))
    for name in ("loss", "rnnt", "ctc"):
        curves = [[line[name] for line in lines] for lines in (exact, coarse)]
        assert curves[1] == pytest.approx(curves[0], rel=0.02)
        assert curves[1] != curves[0]
    tried = [read_metrics(tmp_path / n, file=VALIDATION)[0] for n in ("float32", "bfloat16")]
    assert tried[1]["loss"] == pytest.approx(tried[0]["loss"], rel=0.02)


def test_weights_and_gradients_stay_float32(tones: Path, tmp_path: Path) -> None:
    trainer = Trainer(settings_of(tones, tmp_path, precision="bfloat16"), World())
    step = next(iter(trainer.stream.steps()))
    trainer._backward(step)
    parameters = dict(trainer.student.named_parameters())
    assert {parameter.dtype for parameter in parameters.values()} == {torch.float32}
    assert {p.grad.dtype for p in parameters.values() if p.grad is not None} == {torch.float32}
    assert {value.dtype for value in trainer.student.buffers() if value.is_floating_point()} == {
        torch.float32
    }


@pytest.mark.parametrize("blocks", [False, True])
def test_the_joint_network_is_coarse_wherever_it_is_evaluated(
    tones: Path, tmp_path: Path, blocks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also block by block, and again for the gradient, after the forward pass is over."""
    from kdcache.lattice import factored

    if blocks:
        monkeypatch.setattr(factored, "HELD_ELEMENTS", {"cpu": 0, "cuda": 0})
        monkeypatch.setattr(factored, "BLOCK_ELEMENTS", {"cpu": 1 << 10, "cuda": 1})
    trainer = Trainer(settings_of(tones, tmp_path, precision="bfloat16"), World())
    seen: list[torch.dtype] = []
    joint = trainer.student.model.joint
    joint.register_forward_hook(lambda module, args, output: seen.append(output.dtype))
    trainer._backward(next(iter(trainer.stream.steps())))
    assert set(seen) == {torch.bfloat16}
    assert all(torch.isfinite(p.grad).all() for p in joint.parameters())
    assert (len(seen) > 3) == blocks


def test_other_precision_is_another_run(tones: Path, tmp_path: Path) -> None:
    from kdcache.errors import ConfigError
    from kdcache.train.launch import prepare

    prepare(settings_of(tones, tmp_path))
    with pytest.raises(ConfigError, match="precision = float32, and now precision = bfloat16"):
        prepare(settings_of(tones, tmp_path, precision="bfloat16"))
