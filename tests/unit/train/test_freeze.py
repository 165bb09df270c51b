"""Frozen parts: the same bits after training as before, and no word that is not a part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from test_loop import SMALL, KilledError, settings_of, stop_at

from kdcache.errors import ConfigError
from kdcache.student import load_student
from kdcache.train.loop import Trainer
from kdcache.train.metrics import read_metrics
from kdcache.train.world import World

if TYPE_CHECKING:
    from pathlib import Path

RESCORER = {"width": 8, "layers": 1, "heads": 2}
SECOND = {
    "student": {**SMALL, "rescorer": RESCORER},
    "loss": {"rnnt": 0, "attention": 1.0},
    "optim": {"steps": 6, "warmup": 2, "learning_rate": 5e-3, "weight_decay": 0.1},
}


@pytest.fixture(scope="module")
def first(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A transducer of a few steps."""
    out = tmp_path_factory.mktemp("first")
    settings = settings_of(tones, out, optim={"steps": 2}, student={**SMALL, "ctc_head": True})
    return Trainer(settings, World()).run()


def state_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_student(folder).state_dict()


def second_of(tones: Path, out: Path, first: Path, **changes: Any) -> Path:
    settings = settings_of(tones, out, init=first, **(SECOND | changes))
    return Trainer(settings, World()).run()


def test_a_second_pass_learns_on_a_frozen_first(tones: Path, tmp_path: Path, first: Path) -> None:
    """Weights, and what batch norms remember, to the last bit."""
    freeze = ["encoder", "prediction", "joint"]
    optim = {**SECOND["optim"], "steps": 40, "learning_rate": 2e-2}
    folder = second_of(tones, tmp_path, first, freeze=freeze, optim=optim)
    before, after = state_of(first), state_of(folder)
    assert any("running_mean" in name for name in before)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert {name.partition(".")[0] for name in after.keys() - before.keys()} == {"rescorer"}
    losses = [line["attention"] for line in read_metrics(tmp_path)]
    assert sum(losses[-8:]) < 0.8 * sum(losses[:8])


def test_what_is_not_frozen_learns(tones: Path, tmp_path: Path, first: Path) -> None:
    loss = {"rnnt": 0.5, "attention": 0.5}
    folder = second_of(tones, tmp_path, first, freeze=["encoder"], loss=loss)
    before, after = state_of(first), state_of(folder)
    same = {name for name, value in before.items() if torch.equal(after[name], value)}
    assert {name for name in before if name.startswith("model.encoder.")} <= same
    assert {"model.joint.head.weight", "model.encoder_projector.weight"}.isdisjoint(same)


def test_a_killed_run_with_frozen_parts_ends_as_an_undisturbed_one(
    tones: Path, tmp_path: Path, first: Path
) -> None:
    whole = second_of(tones, tmp_path / "whole", first, freeze=["encoder"])
    broken = settings_of(tones, tmp_path / "broken", init=first, freeze=["encoder"], **SECOND)
    with pytest.raises(KilledError):
        Trainer(broken, World(), stop_at(3)).run()
    expected, found = state_of(whole), state_of(Trainer(broken, World()).run())
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_a_name_that_is_no_part(tones: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"should have freeze of encoder, .*Did you mean 'encod"):
        settings_of(tones, tmp_path, freeze=["encodr"])


def test_a_part_that_this_student_lacks(tones: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no rescorer to freeze; it has encoder, predict"):
        Trainer(settings_of(tones, tmp_path, freeze=["rescorer"]), World())


def test_nothing_left_to_train(tones: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is nothing to train"):
        Trainer(settings_of(tones, tmp_path, freeze=["encoder", "prediction", "joint"]), World())


def test_terms_of_the_second_pass_ask_for_it(tones: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"should have student.rescorer: <settings> for loss.atte"):
        settings_of(tones, tmp_path, loss={"rnnt": 0, "attention": 1.0})
    with pytest.raises(ValueError, match=r"should have data.cache for loss.decoder_kl"):
        settings_of(tones, tmp_path, loss={"decoder_kl": 1.0}, student=SECOND["student"])


def test_what_is_frozen_is_not_pruned(tones: Path, tmp_path: Path, first: Path) -> None:
    prune = {"sparsity": 0.5, "end": 4, "every": 1}
    folder = second_of(tones, tmp_path, first, freeze=["encoder", "joint"], prune=prune)
    before, after = state_of(first), state_of(folder)
    frozen = ("model.encoder.", "model.joint.", "model.encoder_projector.")
    assert all(torch.equal(after[n], value) for n, value in before.items() if n.startswith(frozen))
    assert (after["rescorer.out.weight"] == 0).float().mean() == pytest.approx(0.5, abs=0.01)
