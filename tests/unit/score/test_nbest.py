"""The first pass's n best: their scores are log P over all alignments, whatever the batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from test_greedy import noise, student

from kdcache.corpus import load_tokenizer
from kdcache.lattice import rnnt_loss
from kdcache.score.nbest import n_best
from kdcache.score.report import hear_samples
from kdcache.student import build_student
from kdcache.student.settings import StudentSettings

if TYPE_CHECKING:
    from pathlib import Path

    from kdcache.student import StudentOutput, TransducerStudent

__all__ = ["student"]


@pytest.fixture(scope="module")
def heard(student: TransducerStudent) -> StudentOutput:
    with torch.inference_mode():
        return hear_samples(student, noise(8_000, 5_000, 11_000))


def check_scores(student: TransducerStudent, heard: StudentOutput) -> None:
    """Each is what the RNN-T loss of these labels says."""
    for row, found in enumerate(n_best(student, heard, beam=4)):
        assert 1 <= len(found) <= 4
        for one in found:
            labels = torch.tensor([one.labels], dtype=torch.long).reshape(1, -1)
            frames = heard.frames_B[row : row + 1]
            with torch.no_grad():
                decoder = student.predict(labels)
                encoder = heard.encoder_BTJ[row : row + 1, : int(frames)].clone()
                logits = student.model.joint(decoder[:, None], encoder[:, :, None])
            length = torch.tensor([len(one.labels)])
            (nats,) = rnnt_loss(logits, labels, frames, length, student.blank, "none").tolist()
            assert one.score == pytest.approx(-nats, rel=1e-5)


def test_scores_are_those_of_the_rnnt_loss(
    student: TransducerStudent, heard: StudentOutput
) -> None:
    check_scores(student, heard)


def test_of_a_joint_network_that_only_adds_too(tones: Path) -> None:
    torch.manual_seed(0)
    sizes = StudentSettings(
        hidden=16, layers=1, joint=16, subsampling_channels=4, joint_kind="additive"
    )
    student = build_student(sizes, load_tokenizer(tones / "tokenizer")).eval()
    with torch.inference_mode():
        check_scores(student, hear_samples(student, noise(8_000, 5_000)))


def test_the_best_comes_first_and_none_twice(
    student: TransducerStudent, heard: StudentOutput
) -> None:
    lists = n_best(student, heard, beam=6)
    for found in lists:
        scores = [one.score for one in found]
        assert scores == sorted(scores, reverse=True)
        assert len({one.labels for one in found}) == len(found)
    assert any(found[0].labels for found in lists)


def test_a_wider_beam_finds_no_worse(student: TransducerStudent, heard: StudentOutput) -> None:
    narrow, wide = (n_best(student, heard, beam=beam) for beam in (1, 8))
    assert all(w[0].score >= n[0].score - 1e-4 for n, w in zip(narrow, wide, strict=True))


def test_alone_as_in_a_batch(student: TransducerStudent, heard: StudentOutput) -> None:
    together = n_best(student, heard, beam=3)
    for samples, expected in zip(noise(8_000, 5_000, 11_000), together, strict=True):
        with torch.inference_mode():
            (alone,) = n_best(student, hear_samples(student, [samples]), beam=3)
        assert [one.labels for one in alone] == [one.labels for one in expected]
        scores = [one.score for one in expected]
        assert [one.score for one in alone] == pytest.approx(scores, rel=1e-5)
