"""A transducer that only adds: its encoder's own logits, what they cost, its way to disk and on."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from test_transducer import SMALL, noise_batch, student_of
from transformers import ParakeetForRNNT

from kdcache.batch import PosteriorBatch
from kdcache.corpus import load_tokenizer
from kdcache.lattice import factored, rnnt_loss
from kdcache.loss import posterior_kl
from kdcache.score import decode_labels
from kdcache.student import begin_from_ctc, load_student, save_student
from kdcache.target import make_target, target_spec
from kdcache.teacher import load_teacher
from kdcache.train.objective import loss_terms
from kdcache.train.settings import LossSettings

if TYPE_CHECKING:
    from pathlib import Path

    from kdcache.corpus.tokenizer import Tokenizer

ADDITIVE = SMALL.model_copy(update={"joint_kind": "additive"})


@pytest.fixture(scope="module")
def tokenizer(tones: Path) -> Tokenizer:
    return load_tokenizer(tones / "tokenizer")


def test_its_lattice_is_the_sum_of_two_opinions(tokenizer: Tokenizer) -> None:
    student, batch = student_of(tokenizer, ADDITIVE), noise_batch()
    output = student(batch)
    e_BTV, d_BUV = output.frame_logits(), student.predict(batch.labels_BU)
    assert e_BTV.shape[-1] == d_BUV.shape[-1] == student.blank + 1
    torch.testing.assert_close(output.lattice_logits(), e_BTV[:, :, None] + d_BUV[:, None])


def test_others_have_no_logits_of_their_own(tokenizer: Tokenizer) -> None:
    batch = noise_batch()
    assert student_of(tokenizer)(batch).frame_logits() is None
    output = student_of(tokenizer, SMALL.model_copy(update={"ctc_head": True}))(batch)
    assert output.frame_logits() is output.ctc_logits_BTV
    both = student_of(tokenizer, ADDITIVE.model_copy(update={"ctc_head": True}))(batch)
    assert both.frame_logits() is both.own_logits_BTV


def test_blocks_change_neither_loss_nor_gradient(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    student, batch = student_of(tokenizer, ADDITIVE), noise_batch()

    def loss_and_gradient() -> tuple[torch.Tensor, torch.Tensor]:
        student.zero_grad()
        output = student(batch)
        lengths = (output.frames_B, batch.label_lengths_B)
        loss = rnnt_loss(output.factored(), batch.labels_BU, *lengths, student.blank, "sum")
        loss.backward()
        return loss.detach(), student.model.encoder_projector.weight.grad.clone()

    at_once = loss_and_gradient()
    monkeypatch.setattr(factored, "HELD_ELEMENTS", {"cpu": 0, "cuda": 0})
    monkeypatch.setattr(factored, "BLOCK_ELEMENTS", {"cpu": 200, "cuda": 200})
    for found, expected in zip(loss_and_gradient(), at_once, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_to_disk_and_back_to_the_last_byte(tokenizer: Tokenizer, tmp_path: Path) -> None:
    student, batch = student_of(tokenizer, ADDITIVE), noise_batch()
    folder = save_student(student, tmp_path / "one")
    back = load_student(folder)
    assert back.is_additive
    assert torch.equal(back(batch).lattice_logits(), student(batch).lattice_logits())
    assert decode_labels(back, back(batch)) == decode_labels(student, student(batch))
    again = save_student(back, tmp_path / "two")
    for name in ("model.safetensors",):
        assert (again / name).read_bytes() == (folder / name).read_bytes()


def test_nobody_takes_it_for_another_network(tokenizer: Tokenizer, tmp_path: Path) -> None:
    folder = save_student(student_of(tokenizer, ADDITIVE), tmp_path / "student")
    assert '"model_type": "kdcache_additive_rnnt"' in (folder / "config.json").read_text()
    with pytest.raises((RuntimeError, ValueError)):
        ParakeetForRNNT.from_pretrained(folder, local_files_only=True)


def test_as_a_teacher_it_gives_its_own_logits(tokenizer: Tokenizer, tmp_path: Path) -> None:
    student, batch = student_of(tokenizer, ADDITIVE), noise_batch()
    teacher = load_teacher(save_student(student, tmp_path / "student"))
    assert {"encoder_logits", "lattice"} <= set(teacher.spec.targets)
    output, lengths = student(batch), batch.label_lengths_B.tolist()
    audio = [row[:n].numpy() for row, n in zip(batch.audio_BN, batch.audio_lengths_B, strict=True)]
    labels = [row[:n].tolist() for row, n in zip(batch.labels_BU, lengths, strict=True)]
    for row, said in enumerate(teacher.forward(audio, labels)):
        expected = output.frame_logits()[row, : said.frames]
        torch.testing.assert_close(said.frame_logits_TV, expected, rtol=1e-4, atol=1e-4)
        spec = target_spec({"kind": "hypotheses", "n": 2})
        codec = _codec(spec)
        found = codec.decode(make_target(spec).reduce(said, codec).columns)
        assert len(found.scores_H) == 2


def test_it_learns_from_encoder_logits_without_a_head(tokenizer: Tokenizer) -> None:
    student, batch = student_of(tokenizer, ADDITIVE), noise_batch()
    output = student(batch)
    q_BTV = torch.randn(output.frame_logits().shape).log_softmax(-1)
    rest = torch.full_like(q_BTV[..., :1], -torch.inf)
    ids = torch.arange(q_BTV.shape[-1]).expand(q_BTV.shape)
    target = PosteriorBatch(torch.cat([q_BTV, rest], -1), ids, output.frames_B)
    loss = LossSettings(rnnt=0, encoder_kl=1, encoder_temperature=2)
    taught = replace(batch, targets={"encoder_logits": target})
    term = loss_terms(output, taught, student.blank, loss)["encoder_kl"]
    expected = posterior_kl(output.frame_logits(), target, 2.0, reduction="none")
    torch.testing.assert_close(term, expected)
    term.sum().backward()
    assert student.model.encoder_projector.weight.grad.abs().sum() > 0
    assert student.model.decoder.decoder_projector.weight.grad is None


def test_it_begins_as_its_ctc_head(tokenizer: Tokenizer) -> None:
    student = student_of(tokenizer, ADDITIVE.model_copy(update={"ctc_head": True}))
    begin_from_ctc(student)
    output = student(noise_batch())
    whole = output.lattice_logits()
    torch.testing.assert_close(whole, output.ctc_logits_BTV[:, :, None].expand(whole.shape))


def _codec(spec: object) -> object:
    from kdcache.codec import make_codec

    return make_codec(spec.record, spec.codec)
