"""The terms of the loss on banded and whole lattices, with a student of its own joint network."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from kdcache.batch import Batch, HypothesesBatch, ScoreBatch, VectorBatch
from kdcache.errors import ConfigError, SpecMismatchError
from kdcache.lattice import BandRule, rnnt_loss
from kdcache.lattice.banded import at_band
from kdcache.loss import (
    alignment_kl,
    best_path_kl,
    collapse_lattice,
    confidence_penalty,
    hypothesis_weights,
    lattice_kl,
    vector_mse,
)
from kdcache.student import StudentOutput
from kdcache.train.objective import loss_terms
from kdcache.train.settings import LossSettings, TrainSettings

if TYPE_CHECKING:
    from torch import Tensor

BLANK = 6


class CountingJoint:
    """A joint network that notes how many nodes it was asked for; once for one, to be sized up."""

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
    assert joint.nodes == [1, 3 * 9 * 6]
    logits = output.lattice_logits()
    lengths = (batch.labels_BU, output.frames_B, batch.label_lengths_B)
    torch.testing.assert_close(terms["rnnt"], rnnt_loss(logits, *lengths, BLANK, "none"))
    kl = lattice_kl(logits, batch.lattice, batch.labels_BU, BLANK, "none")
    torch.testing.assert_close(terms["lattice_kl"], kl)


def test_in_the_band_the_joint_network_is_asked_for_nothing_else() -> None:
    output, batch, joint = make(width=3)
    terms = loss_terms(output, batch, BLANK, LossSettings(lattice_kl=1.0, rnnt_in_band=True))
    assert joint.nodes == [1, 3 * 9 * 3]
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
    assert joint.nodes == [1, 3 * 9 * 3]
    assert terms.keys() == {"lattice_kl"}


def test_a_whole_lattice_has_no_band_to_stay_in() -> None:
    output, batch, joint = make(width=None)
    terms = loss_terms(output, batch, BLANK, LossSettings(lattice_kl=1.0))
    asked = loss_terms(output, batch, BLANK, LossSettings(lattice_kl=1.0, rnnt_in_band=True))
    assert joint.nodes == [1, 3 * 9 * 6] * 2
    assert all(torch.equal(terms[name], asked[name]) for name in terms)


def test_other_frames_are_told_before_anything_is_computed() -> None:
    output, batch, joint = make(width=3)
    wrong = replace(output, frames_B=output.frames_B - torch.tensor([0, 3, 0]))
    with pytest.raises(SpecMismatchError, match="'b': the teacher has 7 frames and the student 4"):
        loss_terms(wrong, batch, BLANK, LossSettings(lattice_kl=1.0, rnnt_in_band=True))
    assert joint.nodes == []


@pytest.mark.parametrize("width", [3, None])
def test_what_is_learnt_of_alignments_shares_the_one_pass(width: int | None) -> None:
    output, batch, joint = make(width=width)
    weights = LossSettings(lattice_kl=1.0, alignment_kl=0.5, best_path_kl=0.1)
    terms = loss_terms(output, batch, BLANK, weights)
    assert joint.nodes == [1, 3 * 9 * 6]
    assert terms.keys() == {"rnnt", "lattice_kl", "alignment_kl", "best_path_kl"}
    logits = output.lattice_logits()
    for name, loss in (("alignment_kl", alignment_kl), ("best_path_kl", best_path_kl)):
        expected = loss(logits, batch.lattice, batch.labels_BU, BLANK, "none")
        torch.testing.assert_close(terms[name], expected, rtol=1e-4, atol=1e-4)
        alone = LossSettings.model_validate({"rnnt": 0.0, name: 1.0})
        assert loss_terms(output, batch, BLANK, alone).keys() == {name}


def with_score(batch: Batch) -> Batch:
    score = ScoreBatch(torch.tensor([-1.0, -500.0, -torch.inf]))
    return replace(batch, targets={**batch.targets, "full_sum": score})


@pytest.mark.parametrize("lattice_kl", [0.0, 1.0])
def test_the_full_sum_is_over_the_whole_lattice(lattice_kl: float) -> None:
    output, batch, joint = make(width=3)
    weights = LossSettings(rnnt=0, lattice_kl=lattice_kl, full_sum=0.5)
    terms = loss_terms(output, with_score(batch), BLANK, weights)
    assert joint.nodes == [1, 3 * 9 * 6]
    assert terms.keys() == {"full_sum", *(["lattice_kl"] if lattice_kl else [])}
    lengths = (batch.labels_BU, output.frames_B, batch.label_lengths_B)
    nll = rnnt_loss(output.lattice_logits(), *lengths, BLANK, "none")
    expected = torch.stack([nll[0] - 1, 500 - nll[1], torch.zeros(())])
    torch.testing.assert_close(terms["full_sum"], expected)


def test_the_full_sum_asks_for_its_target() -> None:
    data = {"cache": "c"}
    settings = TrainSettings(out="o", data=data, loss={"full_sum": 1.0, "lattice_kl": 1.0})
    assert settings.targets() == ("lattice", "full_sum")
    with pytest.raises(ValueError, match=r"should have data.cache for loss.full_sum"):
        TrainSettings(out="o", data={"corpus": "m.jsonl", "tokenizer": "t"}, loss={"full_sum": 1.0})


def with_hidden(output: StudentOutput, batch: Batch) -> tuple[StudentOutput, Batch]:
    generator = torch.Generator().manual_seed(1)
    codes = torch.randint(0, 256, (3, 9, 2), generator=generator)
    values = torch.randn(3, 9, 5, generator=generator)
    target = VectorBatch(values, output.frames_B, codes)
    heads = torch.randn(3, 9, 5, generator=generator), torch.zeros(3, 9, 2, 256)
    output = replace(output, vectors_BTD=heads[0], codes_BTQE=heads[1])
    return output, replace(batch, targets={"hidden": target})


def test_hidden_states_are_learnt_as_vectors_and_as_entries() -> None:
    output, batch, joint = make(width=None)
    output, batch = with_hidden(output, batch)
    weights = LossSettings(rnnt=0, hidden_mse=1.0, hidden_codes=0.1)
    terms = loss_terms(output, batch, BLANK, weights)
    assert terms.keys() == {"hidden_mse", "hidden_codes"}
    assert joint.nodes == []
    target = batch.targets["hidden"]
    assert isinstance(target, VectorBatch)
    assert output.vectors_BTD is not None
    expected = vector_mse(output.vectors_BTD, target, "none")
    torch.testing.assert_close(terms["hidden_mse"], expected)
    nats = output.frames_B * 2 * torch.tensor(256.0).log()
    torch.testing.assert_close(terms["hidden_codes"], nats)


@pytest.mark.parametrize("term", ["hidden_mse", "hidden_codes"])
def test_a_head_that_the_student_was_begun_without(term: str) -> None:
    output, batch, _ = make(width=None)
    _, batch = with_hidden(output, batch)
    with pytest.raises(ConfigError, match="student that `init` names was trained without"):
        loss_terms(output, batch, BLANK, LossSettings.model_validate({"rnnt": 0, term: 1.0}))


def test_hidden_states_ask_for_their_heads() -> None:
    data = {"cache": "c"}
    for term, head in (("hidden_mse", "hidden_head"), ("hidden_codes", "codebook_head")):
        with pytest.raises(ValueError, match=f"should have student.{head}"):
            TrainSettings(out="o", data=data, loss={term: 1.0})
        settings = TrainSettings(out="o", data=data, loss={term: 1.0}, student={head: 4})
        assert settings.targets() == ("hidden",)


def test_hypotheses_are_learnt_as_transcripts_would_be() -> None:
    """Against one RNN-T loss after the other, without padding, in value and gradient."""
    output, batch, _ = make(width=None)
    embed = torch.randn(7, 4, generator=torch.Generator().manual_seed(4)).requires_grad_()

    def predict(labels_BU: Tensor) -> Tensor:
        start = torch.full((len(labels_BU), 1), BLANK)
        return embed[torch.cat([start, labels_BU], dim=1)]

    output = replace(output, predict=predict)
    found = [[[1, 2, 3], []], [[4], [2, 2]], [[5, 1], []]]
    counts = torch.tensor([2, 2, 1])
    scores = torch.tensor([[-1.0, -2.0], [-0.5, -0.5], [-3.0, 0.0]])
    lengths = torch.tensor([[len(labels) for labels in lists] for lists in found])
    ids = torch.full((3, 2, 3), -1)
    for row, lists in enumerate(found):
        for h, labels in enumerate(lists):
            ids[row, h, : len(labels)] = torch.tensor(labels)
    target = HypothesesBatch(scores, ids, lengths, counts)
    batch = replace(batch, targets={"hypotheses": target})
    terms = loss_terms(output, batch, BLANK, LossSettings(rnnt=0, hypotheses=1.0))
    assert terms.keys() == {"hypotheses"}

    weights = hypothesis_weights(target)
    expected = torch.zeros(3)
    for row, lists in enumerate(found):
        for h, labels in enumerate(lists[: int(counts[row])]):
            label_1U = torch.tensor([labels], dtype=torch.long).reshape(1, -1)
            frames = output.frames_B[row : row + 1]
            encoder = output.encoder_BTJ[row : row + 1, : int(frames)]
            logits = output.joint(predict(label_1U)[:, None], encoder[:, :, None])
            length = torch.tensor([len(labels)])
            nll = rnnt_loss(logits, label_1U, frames, length, BLANK, "none")
            expected[row] = expected[row] + weights[row, h] * nll[0]
    torch.testing.assert_close(terms["hypotheses"], expected)
    leaves = [output.encoder_BTJ, embed]
    one, other = (torch.autograd.grad(x.sum(), leaves) for x in (terms["hypotheses"], expected))
    torch.testing.assert_close(one, other)


def test_a_batch_without_hypotheses_has_nothing_to_learn() -> None:
    output, batch, _ = make(width=None)
    empty = torch.zeros(3, 0, dtype=torch.long)
    target = HypothesesBatch(empty.float(), empty[..., None], empty, torch.zeros(3).long())
    batch = replace(batch, targets={"hypotheses": target})
    terms = loss_terms(output, batch, BLANK, LossSettings(rnnt=0, hypotheses=1.0))
    assert terms["hypotheses"].tolist() == [0.0, 0.0, 0.0]
    (grad,) = torch.autograd.grad(terms["hypotheses"].sum(), [output.encoder_BTJ])
    assert (grad == 0).all()


def test_only_terms_have_weights() -> None:
    settings = LossSettings(lattice_kl=0.5, rnnt_in_band=True)
    assert settings.weights() == {"rnnt": 1.0, "lattice_kl": 0.5}


def test_confidence_is_penalised_without_a_teacher_and_beside_one() -> None:
    output, batch, joint = make(width=None)
    lengths = (output.frames_B, batch.label_lengths_B)
    logits = output.factored().lattice_logits()
    expected = confidence_penalty(logits, batch.labels_BU, *lengths, BLANK, "none")
    alone = loss_terms(output, batch, BLANK, LossSettings(confidence=0.1))
    assert alone.keys() == {"rnnt", "confidence"}
    torch.testing.assert_close(alone["confidence"], expected)
    joint.nodes.clear()
    beside = loss_terms(output, batch, BLANK, LossSettings(confidence=0.1, lattice_kl=0.1))
    assert beside.keys() == {"rnnt", "confidence", "lattice_kl"}
    torch.testing.assert_close(beside["confidence"], expected)
    assert joint.nodes == [1, 3 * 9 * 6]  # one pass for all three
