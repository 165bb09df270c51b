"""The transducer student: its size, its start, and its way to disk and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from kdcache.batch import Batch
from kdcache.corpus import load_tokenizer
from kdcache.errors import ConfigError, InputError
from kdcache.student import TransducerStudent, build_student, load_student, save_student
from kdcache.student.settings import StudentSettings

if TYPE_CHECKING:
    from pathlib import Path

    from kdcache.corpus.tokenizer import Tokenizer

SMALL = StudentSettings(hidden=16, layers=2, joint=12, subsampling_channels=4, dropout=0)
SECONDS = 1.28


@pytest.fixture(scope="module")
def tokenizer(tones: Path) -> Tokenizer:
    return load_tokenizer(tones / "tokenizer")


def student_of(tokenizer: Tokenizer, settings: StudentSettings = SMALL) -> TransducerStudent:
    torch.manual_seed(3)
    return build_student(settings, tokenizer).eval()


def noise_batch(audio: bool = True) -> Batch:
    samples = np.random.default_rng(5).standard_normal((2, int(16_000 * SECONDS)))
    return Batch(
        ids=("a", "b"),
        texts=("x", "y"),
        labels_BU=torch.tensor([[1, 2, 3], [4, 5, 0]]),
        label_lengths_B=torch.tensor([3, 2]),
        audio_BN=torch.from_numpy(0.1 * samples).float() if audio else None,
        audio_lengths_B=torch.tensor([20480, 16000]) if audio else None,
        targets={},
    )


def test_what_comes_out_has_the_lattice_s_shape(tokenizer: Tokenizer) -> None:
    output = student_of(tokenizer)(noise_batch())
    frames, classes = int(output.frames_B.max()), tokenizer.vocab_size + 1
    assert output.lattice_logits().shape == (2, frames, 4, classes)
    assert output.frames_B.tolist() == [32, 25]  # 40 ms each
    assert output.ctc_logits_BTV is None


def test_the_auxiliary_head_has_a_row_a_frame(tokenizer: Tokenizer) -> None:
    student = student_of(tokenizer, SMALL.model_copy(update={"ctc_head": True}))
    output = student(noise_batch())
    assert output.ctc_logits_BTV is not None
    assert output.ctc_logits_BTV.shape == (*output.lattice_logits().shape[:2], student.blank + 1)


@pytest.mark.parametrize("hidden", [8, 40, 96])
def test_a_new_student_hears(tokenizer: Tokenizer, hidden: int) -> None:
    """What the subsampling gives out is neither lost nor blown up, however narrow it is."""
    student = student_of(tokenizer, SMALL.model_copy(update={"hidden": hidden}))
    batch = noise_batch()
    assert batch.audio_BN is not None
    assert batch.audio_lengths_B is not None
    features, mask = student.features(batch.audio_BN, batch.audio_lengths_B)
    out = student.model.encoder.subsampling(features, mask)
    assert 0.01 < float((out - out.mean((0, 1))).std().detach()) < 10


def test_a_seed_is_a_student(tokenizer: Tokenizer) -> None:
    first, second = student_of(tokenizer), student_of(tokenizer)
    torch.manual_seed(4)
    other = build_student(SMALL, tokenizer)
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    pairs = zip(first.parameters(), other.parameters(), strict=True)
    assert not all(torch.equal(a, b) for a, b in pairs)


def test_an_utterance_does_not_depend_on_its_batch(tokenizer: Tokenizer) -> None:
    student, batch = student_of(tokenizer), noise_batch()
    assert batch.audio_BN is not None
    alone = Batch(
        ids=("b",),
        texts=("y",),
        labels_BU=torch.tensor([[4, 5]]),
        label_lengths_B=torch.tensor([2]),
        audio_BN=batch.audio_BN[1:, :16000],
        audio_lengths_B=torch.tensor([16000]),
        targets={},
    )
    both, one = student(batch), student(alone)
    torch.testing.assert_close(
        both.lattice_logits()[1, :25, :3], one.lattice_logits()[0, :25], rtol=1e-4, atol=1e-4
    )


def test_a_student_without_audio_says_so(tokenizer: Tokenizer) -> None:
    with pytest.raises(ConfigError, match="needs audio"):
        student_of(tokenizer)(noise_batch(audio=False))


@pytest.mark.parametrize("ctc_head", [False, True])
def test_to_disk_and_back(tokenizer: Tokenizer, tmp_path: Path, ctc_head: bool) -> None:
    student = student_of(tokenizer, SMALL.model_copy(update={"ctc_head": ctc_head}))
    back = load_student(save_student(student, tmp_path / "student"))
    before, after = student(noise_batch()), back(noise_batch())
    assert torch.equal(before.lattice_logits(), after.lattice_logits())
    if ctc_head:
        assert before.ctc_logits_BTV is not None
        assert after.ctc_logits_BTV is not None
        assert torch.equal(before.ctc_logits_BTV, after.ctc_logits_BTV)


@pytest.mark.parametrize("heads", [{"hidden_head": 5}, {"hidden_head": 5, "codebook_head": 3}])
def test_distillation_heads_come_along(
    tokenizer: Tokenizer, tmp_path: Path, heads: dict[str, int]
) -> None:
    student = student_of(tokenizer, SMALL.model_copy(update=heads))
    plain, output = student_of(tokenizer)(noise_batch()), student(noise_batch())
    assert plain.vectors_BTD is plain.codes_BTQE is None
    assert torch.equal(plain.encoder_BTJ, output.encoder_BTJ)
    assert output.vectors_BTD.shape == (*output.hidden_BTD.shape[:2], 5)
    if "codebook_head" in heads:
        assert output.codes_BTQE.shape == (*output.hidden_BTD.shape[:2], 3, 256)
    again = load_student(save_student(student, tmp_path / "student"))
    found = again(noise_batch())
    assert torch.equal(found.vectors_BTD, output.vectors_BTD)
    assert (found.codes_BTQE is None) == (output.codes_BTQE is None)
    assert again.state_dict().keys() == student.state_dict().keys()


def test_a_folder_that_is_no_student(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"not a trained student: it has no config\.json"):
        load_student(tmp_path)


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="hidden .18. a multiple of heads .4."):
        StudentSettings(hidden=18)
