"""The terms of the loss on banded and whole lattices, with a student of its own joint network."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from kdcache.batch import Batch
from kdcache.errors import SpecMismatchError
from kdcache.lattice import BandRule, rnnt_loss
from kdcache.lattice.banded import at_band
from kdcache.loss import collapse_lattice, lattice_kl
from kdcache.student import StudentOutput
from kdcache.train.objective import loss_terms
from kdcache.train.settings import LossSettings

if TYPE_CHECKING:
    from torch import Tensor

BLANK = 6


class CountingJoint:
    """A joint network that notes how many nodes it was asked for."""

    def __init__(self, generator: torch.Generator) -> None:
        self.head = torch.randn(4, 7, generator=generator)
        self.nodes: list[int] = []

    def __call__(self, decoder: Tensor, encoder: Tensor) -> Tensor:
        both = torch.tanh(decoder + encoder)
        self.nodes.append(both.shape[:3].numel())
        return both @ self.head


def make(*, width: int | None) -> tuple[StudentOutput, Batch, CountingJoint]:
    generator = torch.Generator().manual_seed(0)
    frames, lengths = torch.tensor([9, 7, 3]), torch.tensor([5, 2, 0])
    joint = CountingJoint(generator)
    output = StudentOutput(
        encoder_BTJ=torch.randn(3, 9, 4, generator=generator).requires_grad_(),
        decoder_BUJ=torch.randn(3, 6, 4, generator=generator).requires_grad_(),
        joint=joint,
        frames_B=frames,
        hidden_BTD=torch.zeros(3, 9, 2),
        ctc_logits_BTV=None,
    )
    labels = torch.randint(0, BLANK, (3, 5), generator=generator)
    teacher = torch.randn(3, 9, 6, 7, generator=generator)
    rule = BandRule(width=width)
    target = collapse_lattice(teacher, labels, frames, lengths, BLANK, 1, rule)
    batch = Batch(("a", "b", "c"), ("", "", ""), labels, lengths, None, None, {"lattice": target})
    return output, batch, joint


def gradients(output: StudentOutput, value: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(value.sum(), [output.encoder_BTJ, output.decoder_BUJ])


def test_the_bands_logits_are_the_lattices() -> None:
    output, batch, _ = make(width=3)
    assert batch.lattice.starts_BT is not None
    found = output.band_logits(batch.lattice.starts_BT, 3)
    expected = at_band(output.lattice_logits(), batch.lattice.starts_BT, 3)
    torch.testing.assert_close(found, expected)


def test_the_rnnt_loss_is_over_the_whole_lattice_unless_asked() -> None:
    output, batch, joint = make(width=3)
    terms = loss_terms(output, batch, BLANK, LossSettings(lattice_kl=1.0))
    assert joint.nodes == [3 * 9 * 6]
    logits = output.lattice_logits()
    lengths = (batch.labels_BU, output.frames_B, batch.label_lengths_B)
    torch.testing.assert_close(terms["rnnt"], rnnt_loss(logits, *lengths, BLANK, "none"))
    kl = lattice_kl(logits, batch.lattice, batch.labels_BU, BLANK, "none")
    torch.testing.assert_close(terms["lattice_kl"], kl)


def test_in_the_band_the_joint_network_is_asked_for_nothing_else() -> None:
    output, batch, joint = make(width=3)
    terms = loss_terms(output, batch, BLANK, LossSettings(lattice_kl=1.0, rnnt_in_band=True))
    assert joint.nodes == [3 * 9 * 3]
    whole = loss_terms(output, batch, BLANK, LossSettings(lattice_kl=1.0))
    torch.testing.assert_close(terms["lattice_kl"], whole["lattice_kl"])
    found, expected = (gradients(output, t["lattice_kl"]) for t in (terms, whole))
    torch.testing.assert_close(found, expected)
    # Two utterances have alignments beyond the band, the third has no label.
    assert (terms["rnnt"] > whole["rnnt"]).tolist() == [True, False, False]
    assert (terms["rnnt"] >= whole["rnnt"] - 1e-6).all()


def test_without_an_rnnt_loss_the_band_is_enough() -> None:
    output, batch, joint = make(width=3)
    terms = loss_terms(output, batch, BLANK, LossSettings(rnnt=0, lattice_kl=1.0))
    assert joint.nodes == [3 * 9 * 3]
    assert terms.keys() == {"lattice_kl"}


def test_a_whole_lattice_has_no_band_to_stay_in() -> None:
    output, batch, joint = make(width=None)
    terms = loss_terms(output, batch, BLANK, LossSettings(lattice_kl=1.0))
    asked = loss_terms(output, batch, BLANK, LossSettings(lattice_kl=1.0, rnnt_in_band=True))
    assert joint.nodes == [3 * 9 * 6] * 2
    assert all(torch.equal(terms[name], asked[name]) for name in terms)


def test_other_frames_are_told_before_anything_is_computed() -> None:
    output, batch, joint = make(width=3)
    wrong = replace(output, frames_B=output.frames_B - torch.tensor([0, 3, 0]))
    with pytest.raises(SpecMismatchError, match="'b': the teacher has 7 frames and the student 4"):
        loss_terms(wrong, batch, BLANK, LossSettings(lattice_kl=1.0, rnnt_in_band=True))
    assert joint.nodes == []


def test_only_terms_have_weights() -> None:
    settings = LossSettings(lattice_kl=0.5, rnnt_in_band=True)
    assert settings.weights() == {"rnnt": 1.0, "lattice_kl": 0.5}
