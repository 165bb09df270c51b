"""A transducer with a second pass: what it adds, what it leaves alone, its way to disk and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_transducer import SMALL, noise_batch, student_of

from kdcache.corpus import load_tokenizer
from kdcache.errors import InputError
from kdcache.network.decoder_files import RESCORER
from kdcache.network.decoder_settings import DecoderSettings
from kdcache.student import load_student, save_student
from kdcache.student.settings import StudentSettings
from kdcache.teacher import load_teacher

if TYPE_CHECKING:
    from pathlib import Path

    from kdcache.corpus.tokenizer import Tokenizer

SECOND = DecoderSettings(width=8, layers=1, heads=2, dropout=0)
TWO_PASS = SMALL.model_copy(update={"rescorer": SECOND})


@pytest.fixture(scope="module")
def tokenizer(tones: Path) -> Tokenizer:
    return load_tokenizer(tones / "tokenizer")


def test_it_spells_beside_the_lattice(tokenizer: Tokenizer) -> None:
    student, batch = student_of(tokenizer, TWO_PASS), noise_batch()
    output = student(batch)
    plain = student_of(tokenizer)(batch)
    assert output.attention_logits_BUV.shape == (2, 4, student.blank + 1)
    assert torch.equal(output.lattice_logits(), plain.lattice_logits())
    assert plain.attention_logits_BUV is None
    assert student.hear(batch.audio_BN, batch.audio_lengths_B).attention_logits_BUV is None


def test_both_passes_share_the_encoder(tokenizer: Tokenizer) -> None:
    student = student_of(tokenizer, TWO_PASS)
    student(noise_batch()).attention_logits_BUV.sum().backward()
    touched = {name for name, weight in student.named_parameters() if weight.grad is not None}
    assert any(name.startswith("model.encoder.") for name in touched)
    assert any(name.startswith("rescorer.") for name in touched)
    assert not any(name.startswith(("model.decoder", "model.joint")) for name in touched)


def test_the_first_pass_is_as_large_as_without(tokenizer: Tokenizer) -> None:
    sizes = [
        sum(weight.numel() for weight in student_of(tokenizer, settings).network.parameters())
        for settings in (SMALL, TWO_PASS)
    ]
    assert sizes[0] == sizes[1]


def test_half_precision_is_of_products_alone(tokenizer: Tokenizer) -> None:
    student = student_of(tokenizer, TWO_PASS)
    exact = student(noise_batch()).attention_logits_BUV
    rough = student(noise_batch(), precision=torch.bfloat16).attention_logits_BUV
    assert rough.dtype == torch.float32
    assert not torch.equal(rough, exact)
    torch.testing.assert_close(rough, exact, rtol=0.1, atol=0.1)


def test_its_parts_are_those_that_settings_name(tokenizer: Tokenizer) -> None:
    heads = {"ctc_head": True, "hidden_head": 3, "codebook_head": 2}
    student = student_of(tokenizer, TWO_PASS.model_copy(update=heads))
    parts = student.parts()
    assert tuple(parts) == StudentSettings.PARTS
    named = [id(weight) for part in parts.values() for weight in part.parameters()]
    assert sorted(named) == sorted(id(weight) for weight in student.parameters())
    assert set(student_of(tokenizer).parts()) == {"encoder", "prediction", "joint"}


def test_to_disk_and_back_to_the_last_byte(tokenizer: Tokenizer, tmp_path: Path) -> None:
    student = student_of(tokenizer, TWO_PASS)
    folder = save_student(student, tmp_path / "one")
    back = load_student(folder)
    assert back.rescorer.settings == SECOND
    before, after = student(noise_batch()), back(noise_batch())
    assert torch.equal(before.attention_logits_BUV, after.attention_logits_BUV)
    again = save_student(back, tmp_path / "two")
    assert (again / RESCORER).read_bytes() == (folder / RESCORER).read_bytes()
    assert not (save_student(student_of(tokenizer), tmp_path / "three") / RESCORER).exists()


def test_as_a_teacher_it_says_the_same(tokenizer: Tokenizer, tmp_path: Path) -> None:
    student, batch = student_of(tokenizer, TWO_PASS), noise_batch()
    teacher = load_teacher(save_student(student, tmp_path / "student"))
    assert {"decoder_logits", "lattice"} <= set(teacher.spec.targets)
    output, lengths = student(batch), batch.label_lengths_B.tolist()
    audio = [row[:n].numpy() for row, n in zip(batch.audio_BN, batch.audio_lengths_B, strict=True)]
    labels = [row[:n].tolist() for row, n in zip(batch.labels_BU, lengths, strict=True)]
    for row, said in enumerate(teacher.forward(audio, labels)):
        expected = output.attention_logits_BUV[row, : lengths[row] + 1]
        torch.testing.assert_close(said.token_logits_UV, expected, rtol=1e-4, atol=1e-4)
        assert said.end == student.blank


def test_another_rescorer_is_another_teacher(tokenizer: Tokenizer, tmp_path: Path) -> None:
    folder = save_student(student_of(tokenizer, TWO_PASS), tmp_path / "student")
    before = load_teacher(folder).spec.fingerprint
    other = load_student(folder)
    with torch.no_grad():
        other.rescorer.out.bias += 1
    assert load_teacher(save_student(other, tmp_path / "other")).spec.fingerprint != before


def test_one_is_added_to_a_student_without(tokenizer: Tokenizer) -> None:
    student = student_of(tokenizer)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    student.grow(TWO_PASS)
    added = student.rescorer
    assert added.settings == SECOND
    student.grow(TWO_PASS)
    assert student.rescorer is added
    after = student.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ("nonsense", "is no attention decoder"),
        ("headless", "is no attention decoder"),
        ("other", "does not fit the model beside it"),
    ],
)
def test_a_file_that_is_no_rescorer_of_this_model(
    tokenizer: Tokenizer, tmp_path: Path, spoil: str, message: str
) -> None:
    folder = save_student(student_of(tokenizer, TWO_PASS), tmp_path / "student")
    if spoil == "nonsense":
        (folder / RESCORER).write_bytes(b"nonsense")
    elif spoil == "headless":
        save_file(load_file(folder / RESCORER), folder / RESCORER)
    else:
        wide = student_of(tokenizer, TWO_PASS.model_copy(update={"hidden": 32}))
        other = save_student(wide, tmp_path / "other")
        (folder / RESCORER).write_bytes((other / RESCORER).read_bytes())
    with pytest.raises(InputError, match=message):
        load_student(folder)
