"""A training that begins its transducer as the CTC head of another one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from pydantic import ValidationError
from test_loop import SMALL, KilledError, settings_of, stop_at

from kdcache.student import TransducerStudent, begin_from_ctc, load_student
from kdcache.train.loop import Trainer
from kdcache.train.world import World

if TYPE_CHECKING:
    from pathlib import Path

    from kdcache.train.settings import TrainSettings

HEARD = {**SMALL, "ctc_head": True, "dropout": 0}


@pytest.fixture(scope="module")
def spelt(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CTC head of a few steps."""
    out = tmp_path_factory.mktemp("ctc")
    settings = settings_of(tones, out, student=HEARD, loss={"rnnt": 0, "ctc": 1})
    return Trainer(settings, World()).run()


def begun_of(tones: Path, out: Path, init: Path, **changes: Any) -> TrainSettings:
    return settings_of(tones, out, init=init, begin_from_ctc=True, student=HEARD, **changes)


def test_it_begins_as_the_head(tones: Path, tmp_path: Path, spelt: Path) -> None:
    begun = Trainer(begun_of(tones, tmp_path, spelt), World()).student
    expected = load_student(spelt)
    assert isinstance(expected, TransducerStudent)
    torch.manual_seed(0)
    begin_from_ctc(expected)
    assert begun.state_dict().keys() == expected.state_dict().keys()
    for name, value in expected.state_dict().items():
        if "embedding" not in name:  # drawn anew
            assert torch.equal(begun.state_dict()[name], value), name


def test_it_goes_on_from_its_checkpoint_and_does_not_begin_again(
    tones: Path, tmp_path: Path, spelt: Path
) -> None:
    whole = Trainer(begun_of(tones, tmp_path / "whole", spelt), World()).run()
    trainer = Trainer(begun_of(tones, tmp_path / "cut", spelt), World(), stop_at(3))
    with pytest.raises(KilledError):
        trainer.run()
    cut = Trainer(begun_of(tones, tmp_path / "cut", spelt), World()).run()
    one, other = load_student(whole).state_dict(), load_student(cut).state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    "changes",
    [
        {"student": HEARD},
        {"student": SMALL, "init": "somewhere"},
        {
            "student": {"kind": "san_m", "ctc_head": True},
            "init": "x",
            "loss": {"rnnt": 0, "ctc": 1},
        },
    ],
    ids=["no init", "no head", "no transducer"],
)
def test_what_has_no_head_is_refused(tones: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="should have init, and a transducer with"):
        settings_of(tones, tmp_path, begin_from_ctc=True, **changes)
