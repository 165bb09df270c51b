"""A transducer begun from a CTC head: it says the same, and learns to say it once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from kdcache.batch import Batch
from kdcache.corpus import load_tokenizer
from kdcache.errors import ConfigError
from kdcache.lattice import rnnt_loss
from kdcache.student import TransducerStudent, begin_from_ctc, build_student
from kdcache.student.settings import StudentSettings

if TYPE_CHECKING:
    from pathlib import Path

    from kdcache.corpus.tokenizer import Tokenizer

SMALL = StudentSettings(
    hidden=16, layers=2, joint=16, subsampling_channels=4, dropout=0, ctc_head=True
)


@pytest.fixture(scope="module")
def tokenizer(tones: Path) -> Tokenizer:
    return load_tokenizer(tones / "tokenizer")


def student_of(tokenizer: Tokenizer, **sizes: int | bool) -> TransducerStudent:
    """As training may have left it: the last norm's scales and offsets are no longer 1 and 0."""
    torch.manual_seed(3)
    student = build_student(SMALL.model_copy(update=sizes), tokenizer).eval()
    norm = student.model.encoder.layers[-1].norm_out
    torch.nn.init.normal_(norm.weight, 0, 2)
    torch.nn.init.normal_(norm.bias, 0, 2)
    return student


def batch_of(student: TransducerStudent) -> Batch:
    samples = np.random.default_rng(5).standard_normal((2, 16_000))
    return Batch(
        ids=("a", "b"),
        texts=("x", "y"),
        labels_BU=torch.tensor([[1, 2, 3, 3], [4, 1, 0, student.blank]]),
        label_lengths_B=torch.tensor([4, 2]),
        audio_BN=torch.from_numpy(0.1 * samples).float(),
        audio_lengths_B=torch.tensor([16_000, 12_000]),
        targets={},
    )


@pytest.mark.parametrize("joint", [16, 29])
def test_every_node_says_what_the_head_says(tokenizer: Tokenizer, joint: int) -> None:
    student = student_of(tokenizer, joint=joint)
    begin_from_ctc(student)
    output = student(batch_of(student))
    assert output.ctc_logits_BTV is not None
    logits_BTUV = output.lattice_logits()
    expected_BTUV = output.ctc_logits_BTV[:, :, None].expand_as(logits_BTUV)
    assert float(expected_BTUV.detach().std()) > 1  # two constants would agree as well
    torch.testing.assert_close(logits_BTUV, expected_BTUV, rtol=0, atol=1e-3)


def test_a_student_at_random_does_not(tokenizer: Tokenizer) -> None:
    student = student_of(tokenizer)
    output = student(batch_of(student))
    assert output.ctc_logits_BTV is not None
    away = output.lattice_logits() - output.ctc_logits_BTV[:, :, None]
    assert float(away.detach().abs().max()) > 1


def test_no_hidden_state_is_bent(tokenizer: Tokenizer) -> None:
    """Not even the greatest that a layer norm lets through: all of its variance in one channel."""
    student = student_of(tokenizer)
    begin_from_ctc(student)
    norm = student.model.encoder.layers[-1].norm_out
    extreme_TD = norm(1e4 * torch.cat([torch.eye(16), -torch.eye(16)]))
    assert float(student.model.encoder_projector(extreme_TD).detach().min()) > -1e-4


def test_encoder_and_head_stay_as_they_were(tokenizer: Tokenizer) -> None:
    student, before = student_of(tokenizer), student_of(tokenizer)
    begin_from_ctc(student)
    batch = batch_of(student)
    now, then = student(batch), before(batch)
    assert torch.equal(now.hidden_BTD, then.hidden_BTD)
    assert torch.equal(now.ctc_logits_BTV, then.ctc_logits_BTV)


def test_it_learns_to_hear_the_labels_before(tokenizer: Tokenizer) -> None:
    """At first all columns of a frame are alike; the loss falls, and then they are not."""
    student = student_of(tokenizer, joint=20)
    begin_from_ctc(student)
    batch = batch_of(student)
    optimizer = torch.optim.AdamW(student.model.parameters(), lr=1e-2)
    losses = []
    for _ in range(12):
        output = student(batch)
        loss = rnnt_loss(
            output.factored(), batch.labels_BU, output.frames_B, batch.label_lengths_B,
            student.blank,
        )  # fmt: skip
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]
    logits_BTUV = student(batch).lattice_logits().detach()
    assert float((logits_BTUV - logits_BTUV[:, :, :1]).abs().max()) > 0.5


def test_without_a_head_there_is_nothing_to_begin_from(tokenizer: Tokenizer) -> None:
    with pytest.raises(ConfigError, match="without a CTC head"):
        begin_from_ctc(student_of(tokenizer, ctc_head=False))


def test_a_narrow_joint_network_would_lose_some(tokenizer: Tokenizer) -> None:
    with pytest.raises(ConfigError, match="12 wide for an encoder 16 wide"):
        begin_from_ctc(student_of(tokenizer, joint=12))


def test_another_activation_would_bend_it(tokenizer: Tokenizer) -> None:
    student = student_of(tokenizer)
    student.model.config.hidden_act = "silu"
    with pytest.raises(ConfigError, match="'silu'"):
        begin_from_ctc(student)
