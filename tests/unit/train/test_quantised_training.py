"""Training with rounded weights: what is computed with, what is learnt, what is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file

from kdcache.student import load_student, pack_student
from kdcache.student.quantisation import Rounding, roundable
from kdcache.student.quantise_settings import QuantiseSettings
from kdcache.student.rounding import rounded
from kdcache.train.loop import Trainer
from kdcache.train.settings import TrainSettings
from kdcache.train.world import World

if TYPE_CHECKING:
    from pathlib import Path

SMALL = {
    "kind": "san_m",
    "hidden": 16,
    "layers": 2,
    "heads": 2,
    "feed_forward": 2,
    "subsampling_channels": 4,
    "dropout": 0,
    "ctc_head": True,
    "decoder": {"width": 16, "layers": 1, "heads": 2, "dropout": 0},
    "share": {"encoder": "all"},
}


def settings_of(tones: Path, out: Path, **changes: Any) -> TrainSettings:
    values = {
        "out": str(out),
        "data": {"corpus": str(tones / "train.jsonl"), "tokenizer": str(tones / "tokenizer")},
        "student": SMALL,
        "loss": {"rnnt": 0, "attention": 1, "ctc": 0.5},
        "quantise": {"begin": 2},
        "optim": {"steps": 5, "warmup": 0, "learning_rate": 5e-3},
        "batch_seconds": 5,
        "checkpoint_every": 100,
        **changes,
    }
    return TrainSettings.model_validate(values)


def weights_after(tones: Path, out: Path, **changes: Any) -> dict[str, torch.Tensor]:
    folder = Trainer(settings_of(tones, out, **changes), World()).run()
    return load_file(folder / "model.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_weights_are_rounded_within_and_their_own_after() -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.LayerNorm(3))
    own = {name: value.clone() for name, value in network.state_dict().items()}
    rounding = Rounding(network, QuantiseSettings(begin=5))
    with rounding.after(4):
        assert same(network.state_dict(), own)
    with rounding.after(5):
        assert torch.equal(network[0].weight, rounded(own["0.weight"]))
        assert not torch.equal(network[0].weight, own["0.weight"])
        assert torch.equal(network[0].bias, own["0.bias"])
        assert torch.equal(network[1].weight, own["1.weight"])
    assert same(network.state_dict(), own)


def test_weights_are_back_after_a_failure() -> None:
    network = torch.nn.Linear(4, 3)
    own = network.weight.clone()
    with pytest.raises(ZeroDivisionError), Rounding(network, QuantiseSettings()).after(0):
        raise ZeroDivisionError
    assert torch.equal(network.weight, own)


def test_gradients_pass_straight_through() -> None:
    """That of w where q(w) was computed with: of (q(w) · x)² it is 2 q(w) · x · x."""
    torch.manual_seed(0)
    network, x = torch.nn.Linear(4, 1, bias=False), torch.randn(4)
    with Rounding(network, QuantiseSettings()).after(0):
        network(x).square().sum().backward()
    expected = 2 * (rounded(network.weight) @ x) * x
    torch.testing.assert_close(network.weight.grad[0], expected)


def test_it_begins_when_it_is_asked_to(tones: Path, tmp_path: Path) -> None:
    plain = weights_after(tones, tmp_path / "plain", quantise=None)
    late = weights_after(tones, tmp_path / "late", quantise={"begin": 5})
    early = weights_after(tones, tmp_path / "early", quantise={"begin": 4})
    assert same(plain, late)
    assert not same(plain, early)


def test_what_is_written_packs_to_what_was_trained_with(tones: Path, tmp_path: Path) -> None:
    prune = {"sparsity": 0.5, "begin": 0, "end": 3}
    folder = Trainer(settings_of(tones, tmp_path / "run", prune=prune), World()).run()
    student = load_student(folder)
    weights = dict(student.network.named_parameters())
    assert any(not torch.equal(rounded(w), w) for n, w in weights.items() if "weight" in n[-6:])
    pack_student(student, tmp_path / "packed")
    packed = load_student(tmp_path / "packed")
    assert "model.encoder.layers.0.memory.taps.weight" in roundable(student)
    with Rounding(student, QuantiseSettings()).after(0):
        assert same(packed.network.state_dict(), student.network.state_dict())
    for name, weight in packed.network.named_parameters():
        assert bool((weight[weights[name] == 0] == 0).all())


def test_a_killed_run_goes_on_the_same(tones: Path, tmp_path: Path) -> None:
    whole = weights_after(tones, tmp_path / "whole", checkpoint_every=3)

    def stop(told: dict[str, Any]) -> None:
        if told["step"] == 3:
            raise KeyboardInterrupt

    settings = settings_of(tones, tmp_path / "parts", checkpoint_every=3)
    with pytest.raises(KeyboardInterrupt):
        Trainer(settings, World(), stop).run()
    assert same(weights_after(tones, tmp_path / "parts", checkpoint_every=3), whole)
