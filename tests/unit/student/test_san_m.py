"""The SAN-M student: its layers against sums written out, its masks, what it shares, its files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_transducer import noise_batch

from kdcache.batch import Batch
from kdcache.corpus import load_tokenizer
from kdcache.errors import ConfigError, InputError, TokenizerError, TranscriptError
from kdcache.network.decoder_settings import DecoderSettings
from kdcache.network.san_m import Memory, SanMLayer
from kdcache.network.san_m_settings import SanMSettings
from kdcache.network.sharing import ShareSettings, weights_of_layers
from kdcache.network.subsampling import Subsampling
from kdcache.score.attention import greedy_attention
from kdcache.score.decode import decode_labels
from kdcache.student import build_student, load_student, save_student
from kdcache.student.san_m_settings import SanMStudentSettings
from kdcache.teacher import load_teacher
from kdcache.train.settings import LossSettings, TrainSettings

if TYPE_CHECKING:
    from pathlib import Path

    from kdcache.corpus.tokenizer import Tokenizer
    from kdcache.network.sharing import Share
    from kdcache.student.san_m import SanMStudent

SMALL = SanMStudentSettings(
    hidden=16,
    layers=3,
    heads=2,
    feed_forward=2,
    memory_kernel=5,
    subsampling_channels=3,
    dropout=0,
    decoder=DecoderSettings(width=16, layers=2, heads=2, dropout=0),
    ctc_head=True,
)
SHARED = SMALL.model_copy(update={"share": ShareSettings(encoder="all", decoder="all")})
UNEQUAL = [20480, 9000]
"""Samples, of which 128 and 56 feature frames are made, and 32 and 14 encoder frames."""


@pytest.fixture(scope="module")
def tokenizer(tones: Path) -> Tokenizer:
    return load_tokenizer(tones / "tokenizer")


def student_of(tokenizer: Tokenizer, settings: SanMStudentSettings = SMALL) -> SanMStudent:
    torch.manual_seed(3)
    return build_student(settings, tokenizer).eval()


def two(first: int = 2) -> Batch:
    """Two utterances of unequal length, or the second alone, whose padding is cut off."""
    whole, keep = noise_batch(), slice(2 - first, 2)
    lengths = torch.tensor(UNEQUAL)[keep]
    return Batch(
        ids=whole.ids[keep],
        texts=whole.texts[keep],
        labels_BU=whole.labels_BU[keep],
        label_lengths_B=whole.label_lengths_B[keep],
        audio_BN=whole.audio_BN[keep, : int(lengths.max())],
        audio_lengths_B=lengths,
        targets={},
    )


def test_what_comes_out(tokenizer: Tokenizer) -> None:
    student = student_of(tokenizer)
    output, classes = student(two()), tokenizer.vocab_size + 1
    assert output.frames_B.tolist() == [32, 14]
    assert output.hidden_BTD.shape == (2, 32, 16)
    assert output.attention_logits_BUV.shape == (2, 4, classes)
    assert output.ctc_logits_BTV.shape == (2, 32, classes)
    assert student.hear(two().audio_BN, two().audio_lengths_B).attention_logits_BUV is None
    assert student.frame_shift == SMALL.frame_shift == 0.04
    assert student.blank == tokenizer.vocab_size


def test_memory_is_its_sum() -> None:
    torch.manual_seed(0)
    memory, frames = Memory(3, 5).double(), [6, 4]
    values = torch.randn(2, 6, 3, dtype=torch.float64)
    found = memory(values, torch.tensor(frames))
    for b, length in enumerate(frames):
        for t in range(length):
            expected = values[b, t].clone()
            for i in range(-2, 3):
                if 0 <= t + i < length:
                    expected += memory.taps.weight[:, 0, i + 2] * values[b, t + i]
            torch.testing.assert_close(found[b, t], expected)


def test_a_layer_is_attention_and_memory_and_feed_forward() -> None:
    torch.manual_seed(0)
    layer = SanMLayer(SMALL).double().eval()
    x = torch.randn(1, 5, 16, dtype=torch.float64)
    normed = layer.attention_norm(x)
    query = layer.attention.query(normed)
    key, value = layer.attention.key_value(normed).chunk(2, -1)
    heads = []
    for part in (slice(0, 8), slice(8, 16)):
        scores = (query[..., part] @ key[..., part].transpose(1, 2)) / 8**0.5
        heads.append(scores.softmax(-1) @ value[..., part])
    attended = layer.attention.out(torch.cat(heads, -1))
    y = x + attended + layer.memory(value, torch.tensor([5]))
    torch.testing.assert_close(layer(x, torch.tensor([5])), y + layer.feed_forward(y))


def test_gradients_of_a_layer() -> None:
    torch.manual_seed(0)
    sizes = SMALL.model_copy(update={"hidden": 8, "feed_forward": 1})
    layer = SanMLayer(sizes).double().eval()
    x = torch.randn(2, 4, 8, dtype=torch.float64, requires_grad=True)
    frames = torch.tensor([4, 1])
    seen = torch.arange(4) < frames[:, None]
    assert torch.autograd.gradcheck(lambda x: layer(x, frames)[seen], (x,))


@pytest.mark.parametrize("settings", [SMALL, SHARED], ids=["own", "shared"])
def test_padding_has_no_say(tokenizer: Tokenizer, settings: SanMStudentSettings) -> None:
    student = student_of(tokenizer, settings)
    both, alone = student(two()), student(two(1))
    for name in ("hidden_BTD", "ctc_logits_BTV"):
        inside = getattr(both, name)[1, :14]
        torch.testing.assert_close(inside, getattr(alone, name)[0], rtol=1e-4, atol=1e-5)
    spelt = both.attention_logits_BUV[1, :3], alone.attention_logits_BUV[0, :3]
    torch.testing.assert_close(*spelt, rtol=1e-4, atol=1e-5)


def test_what_lies_in_padding_is_not_seen(tokenizer: Tokenizer) -> None:
    model = student_of(tokenizer).model
    features = torch.randn(2, 41, 80)
    mask = torch.arange(41) < torch.tensor([41, 18])[:, None]
    other = features.masked_fill(~mask[..., None], float("nan"))
    (before, frames), (after, _) = model.encode(features, mask), model.encode(other, mask)
    assert frames.tolist() == [11, 5]
    assert torch.equal(before[0], after[0])
    assert torch.equal(before[1, :5], after[1, :5])


@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize("frames", [1, 2, 7, 8, 9])
def test_every_feature_frame_is_in_a_frame(factor: int, frames: int) -> None:
    torch.manual_seed(0)
    network = Subsampling(10, factor, 4, 8)
    x, found = network(torch.randn(1, frames, 10), torch.tensor([frames]))
    assert x.shape == (1, -(-frames // factor), 8)
    assert found.tolist() == [x.shape[1]]


def test_one_frame_and_no_label(tokenizer: Tokenizer) -> None:
    student = student_of(tokenizer)
    batch = two(1)
    short = Batch(
        ids=("a",),
        texts=("",),
        labels_BU=torch.zeros(1, 0, dtype=torch.long),
        label_lengths_B=torch.tensor([0]),
        audio_BN=batch.audio_BN[:, :400],
        audio_lengths_B=torch.tensor([400]),
        targets={},
    )
    output = student(short)
    assert output.frames_B.tolist() == [1]
    assert output.attention_logits_BUV.shape == (1, 1, student.blank + 1)
    assert torch.isfinite(output.attention_logits_BUV).all()


@pytest.mark.parametrize(
    ("layers", "share", "expected"),
    [
        (3, "none", (0, 1, 2)),
        (3, "all", (0, 0, 0)),
        (5, 2, (0, 0, 1, 1, 2)),
        (2, 7, (0, 0)),
        (3, 1, (0, 1, 2)),
    ],
)
def test_which_layers_share(layers: int, share: Share, expected: tuple[int, ...]) -> None:
    assert weights_of_layers(layers, share) == expected


def test_sharing_is_copies_of_one_layer(tokenizer: Tokenizer) -> None:
    shared, own = student_of(tokenizer, SHARED), student_of(tokenizer)
    state = shared.state_dict()
    for stack, layers in (("encoder.layers", 3), ("decoder.blocks", 2)):
        first = f"model.{stack}.0."
        for name in [name for name in state if name.startswith(first)]:
            for layer in range(1, layers):
                state[name.replace(first, f"model.{stack}.{layer}.")] = state[name]
    own.load_state_dict(state)
    one, other = shared(two()), own(two())
    assert torch.equal(one.attention_logits_BUV, other.attention_logits_BUV)


def test_what_is_shared_is_there_once(tokenizer: Tokenizer, tmp_path: Path) -> None:
    student = student_of(tokenizer, SHARED)
    layer = sum(weight.numel() for weight in student.model.encoder.layers[0].parameters())
    block = sum(weight.numel() for weight in student.model.decoder.blocks[0].parameters())
    whole = sum(weight.numel() for weight in student_of(tokenizer).parameters())
    assert sum(weight.numel() for weight in student.parameters()) == whole - 2 * layer - block
    stored = load_file(save_student(student, tmp_path) / "model.safetensors")
    network = sum(weight.numel() for weight in student.network.parameters())
    assert sum(weight.numel() for weight in stored.values()) == network


def test_gradients_of_what_is_shared_are_the_sum(tokenizer: Tokenizer) -> None:
    student = student_of(tokenizer, SHARED)
    student(two()).attention_logits_BUV.square().sum().backward()
    assert all(weight.grad is not None for weight in student.model.parameters())


def test_to_disk_and_back_to_the_last_byte(tokenizer: Tokenizer, tmp_path: Path) -> None:
    student = student_of(tokenizer, SHARED)
    folder = save_student(student, tmp_path / "one")
    back = load_student(folder)
    before, after = student(two()), back(two())
    assert torch.equal(before.attention_logits_BUV, after.attention_logits_BUV)
    assert torch.equal(before.ctc_logits_BTV, after.ctc_logits_BTV)
    again = save_student(back, tmp_path / "two")
    for file in sorted(folder.iterdir()):
        assert (again / file.name).read_bytes() == file.read_bytes()


def test_it_decodes_by_its_decoder(tokenizer: Tokenizer) -> None:
    student = student_of(tokenizer)
    with torch.no_grad():
        student.model.decoder.out.weight.mul_(5)
    heard = student.hear(two().audio_BN, two().audio_lengths_B)
    found = decode_labels(student, heard)
    assert found == greedy_attention(student.model.decoder, heard.hidden_BTD, heard.frames_B)
    assert any(found)
    assert all(len(row) <= frames for row, frames in zip(found, [32, 14], strict=True))


def test_as_a_teacher_it_says_the_same(tokenizer: Tokenizer, tmp_path: Path) -> None:
    student, batch = student_of(tokenizer, SHARED), two()
    teacher = load_teacher(save_student(student, tmp_path))
    assert teacher.spec.targets == ("decoder_logits", "encoder_logits", "features", "hidden")
    output, lengths = student(batch), batch.label_lengths_B.tolist()
    audio = [row[:n].numpy() for row, n in zip(batch.audio_BN, UNEQUAL, strict=True)]
    labels = [row[:n].tolist() for row, n in zip(batch.labels_BU, lengths, strict=True)]
    close = {"rtol": 1e-4, "atol": 1e-5}
    for row, said in enumerate(teacher.forward(audio, labels)):
        spelt = output.attention_logits_BUV[row, : lengths[row] + 1]
        torch.testing.assert_close(said.token_logits_UV, spelt, **close)
        heard = output.ctc_logits_BTV[row, : said.frames]
        torch.testing.assert_close(said.frame_logits_TV, heard, **close)
        assert said.end == said.blank == student.blank


def test_a_teacher_without_a_head_has_no_encoder_logits(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    plain = SMALL.model_copy(update={"ctc_head": False})
    teacher = load_teacher(save_student(student_of(tokenizer, plain), tmp_path))
    assert "encoder_logits" not in teacher.spec.targets
    (said,) = teacher.forward([np.zeros(8000, np.float32)], [[]])
    assert said.frame_logits_TV is None
    with pytest.raises(TranscriptError, match="is no label: this teacher's decoder ends with it"):
        teacher.forward([np.zeros(8000, np.float32)], [[tokenizer.vocab_size]])


def spoil_config(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def test_a_directory_that_is_none(tokenizer: Tokenizer, tmp_path: Path) -> None:
    folder = save_student(student_of(tokenizer), tmp_path)
    spoil_config(folder, sizes=SanMSettings(hidden=32).model_dump())
    with pytest.raises(InputError, match="does not have the weights"):
        load_student(folder)
    spoil_config(folder, sizes={"hiden": 32})
    with pytest.raises(InputError, match="holds no SAN-M network"):
        load_student(folder)


def test_a_tokenizer_of_another_size(tokenizer: Tokenizer, tmp_path: Path) -> None:
    class Larger:
        vocab_size = tokenizer.vocab_size + 2

        def save(self, directory: Path) -> None:
            tokenizer.save(directory)

    torch.manual_seed(0)
    folder = save_student(build_student(SMALL, Larger()), tmp_path)
    with pytest.raises(TokenizerError, match="expected one more than tokens"):
        load_student(folder)


def test_what_it_can_learn_from(tmp_path: Path) -> None:
    def settings(loss: dict[str, float], **student: object) -> TrainSettings:
        return TrainSettings.model_validate(
            {
                "out": tmp_path,
                "data": {"cache": tmp_path},
                "student": {"kind": "san_m", **student},
                "loss": loss,
            }
        )

    found = settings({"rnnt": 0, "attention": 1, "encoder_kl": 1}, ctc_head=True)
    assert isinstance(found.student, SanMStudentSettings)
    assert found.loss == LossSettings(rnnt=0, attention=1, encoder_kl=1)
    with pytest.raises(ValueError, match="a student of kind san_m learns from attention, ctc"):
        settings({"rnnt": 1})
    with pytest.raises(ValueError, match=r"should have student\.ctc_head: true for loss\.ctc"):
        settings({"rnnt": 0, "ctc": 1})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"hidden": 18}, "multiple of heads"),
        ({"memory_kernel": 4}, "odd memory_kernel"),
        ({"share": {"encoder": 0}}, "share"),
        ({"share": {"encoder": "some"}}, "share"),
    ],
)
def test_sizes_that_do_not_fit(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SanMStudentSettings.model_validate(wrong)


def test_without_audio(tokenizer: Tokenizer) -> None:
    with pytest.raises(ConfigError, match="needs audio"):
        student_of(tokenizer)(noise_batch(audio=False))
