"""The CTC student: wav2vec 2.0's own numbers when whole, and the same chunk by chunk as masked."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdcache.batch import Batch
from kdcache.corpus import load_tokenizer
from kdcache.errors import ConfigError, TokenizerError
from kdcache.score import latency
from kdcache.score.latency import latency_report, stream_utterance
from kdcache.student import (
    CTCStudent,
    CTCStudentSettings,
    StudentSettings,
    build_student,
    ctc_network,
    load_student,
    save_student,
)
from kdcache.student.augment import SpecAugment
from kdcache.student.ctc_network import attention_mask
from kdcache.student.ctc_settings import StreamingSettings
from kdcache.student.ctc_stream import ChunkedCTC
from kdcache.teacher import load_teacher

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from kdcache.corpus.tokenizer import Tokenizer

SMALL = CTCStudentSettings(
    kind="ctc",
    hidden=16,
    layers=2,
    heads=2,
    conv_channels=8,
    # wav2vec 2.0's own.
    conv_kernels=(10, 3, 3, 3, 3, 2, 2),
    conv_strides=(5, 2, 2, 2, 2, 2, 2),
    first_filters="random",
    position_kernel=5,
    dropout=0.2,
)
LENGTHS = (16_000, 9_000)


@pytest.fixture(scope="module")
def tokenizer(tones: Path) -> Tokenizer:
    return load_tokenizer(tones / "tokenizer")


def student_of(tokenizer: Tokenizer, **changes: object) -> CTCStudent:
    torch.manual_seed(3)
    found = build_student(SMALL.model_copy(update=changes), tokenizer).eval()
    assert isinstance(found, CTCStudent)
    return found


def noise(*lengths: int, seed: int = 5) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [(0.1 * random.standard_normal(n)).astype(np.float32) for n in lengths]


def padded(rows: list[np.ndarray]) -> tuple[Tensor, Tensor]:
    tensors = [torch.from_numpy(row) for row in rows]
    lengths = torch.tensor([len(row) for row in rows])
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True), lengths


def batch_of(rows: list[np.ndarray]) -> Batch:
    audio, lengths = padded(rows)
    empty, none = torch.zeros(len(rows), 1, dtype=torch.int64), torch.zeros(len(rows)).long()
    ids = tuple("abc"[: len(rows)])
    return Batch(ids, ("",) * len(rows), empty, none, audio, lengths, {})


def test_whole_it_is_what_transformers_computes(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """And so the directory is a teacher, for a student after it."""
    student, rows = student_of(tokenizer), noise(*LENGTHS)
    teacher = load_teacher(save_student(student, tmp_path / "s"))
    output = student.hear(*padded(rows))
    told = teacher.forward(rows, [(), ()])
    assert teacher.spec.frame_shift == pytest.approx(student.frame_shift) == 0.02
    assert teacher.spec.blank_id == student.blank
    for row, answer in enumerate(told):
        own = output.ctc_logits_BTV[row, : answer.frames]
        assert int(output.frames_B[row]) == answer.frames
        torch.testing.assert_close(own, answer.frame_logits_TV, rtol=1e-4, atol=1e-5)


def test_layers_are_the_teacher_s_layers(tokenizer: Tokenizer, tmp_path: Path) -> None:
    student, rows = student_of(tokenizer), noise(*LENGTHS)
    teacher = load_teacher(save_student(student, tmp_path / "s"))
    teacher.kept_layers = (1, 2)
    told = teacher.forward(rows, [(), ()])[1]
    wanted = {f"h{n}": {"layer": n, "width": 16} for n in (1, 2)}
    pupil = student.begin(CTCStudentSettings(kind="ctc", hidden_layers=wanted))
    for head in pupil.hidden_heads.values():
        torch.nn.init.eye_(head.weight)
        torch.nn.init.zeros_(head.bias)
    vectors = pupil(batch_of(rows)).layer_vectors
    for n in (1, 2):
        own = vectors[f"h{n}"][1, : told.frames]
        torch.testing.assert_close(own, told.layers[n], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("streaming", [None, StreamingSettings(chunk=3, history=4)])
def test_an_utterance_does_not_depend_on_its_batch(tokenizer: Tokenizer, streaming) -> None:
    student, rows = student_of(tokenizer, streaming=streaming), noise(*LENGTHS)
    both, alone = student.hear(*padded(rows)), student.hear(*padded(rows[1:]))
    frames = int(alone.frames_B)
    assert both.frames_B.tolist()[1] == frames == 27
    torch.testing.assert_close(
        both.ctc_logits_BTV[1, :frames], alone.ctc_logits_BTV[0], rtol=1e-4, atol=1e-5
    )


@given(
    chunk=st.integers(1, 9),
    history=st.integers(0, 12),
    packet=st.integers(100, 4000),
    samples=st.integers(300, 9000),
)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_chunk_by_chunk_is_the_masked_pass(
    tokenizer: Tokenizer, chunk: int, history: int, packet: int, samples: int
) -> None:
    streaming = StreamingSettings(chunk=chunk, history=history)
    student = student_of(tokenizer, streaming=streaming)
    (audio,) = noise(samples, seed=samples)
    whole = student.hear(*padded([audio]))
    streamed = stream_utterance(student, audio, packet)
    frames = int(whole.frames_B)
    assert len(streamed.logits_TV) == len(streamed.waits) == frames
    expected = whole.ctc_logits_BTV[0, :frames]
    torch.testing.assert_close(streamed.logits_TV, expected, rtol=1e-4, atol=1e-5)
    # Each waits for its chunk's end, up to a packet more; or for the end of the utterance.
    shift, field = student.frame_shift, 400 / 16_000
    for t, wait in enumerate(streamed.waits):
        needed = (t - t % chunk + chunk - 1) * shift + field - t * shift
        bound = min(needed + packet / 16_000, samples / 16_000 - t * shift)
        assert wait <= bound + 1e-9
        assert wait >= min(needed, samples / 16_000 - t * shift) - 1e-9


def test_nothing_later_than_its_chunk_is_heard(tokenizer: Tokenizer) -> None:
    student = student_of(tokenizer, streaming=StreamingSettings(chunk=4, history=8))
    (audio,) = noise(16_000)
    other = audio.copy()
    other[11 * 320 + 400 :] = noise(16_000, seed=9)[0][11 * 320 + 400 :]
    first, second = (student.hear(*padded([x])).ctc_logits_BTV[0] for x in (audio, other))
    torch.testing.assert_close(first[:12], second[:12], rtol=1e-4, atol=1e-5)
    assert (first[12] - second[12]).abs().max() > 1e-3


def test_whom_a_frame_may_look_at() -> None:
    mask = attention_mask(torch.tensor([5]), 6, StreamingSettings(chunk=2, history=1))[0, 0]
    seen = [row.nonzero()[:, 0].tolist() for row in mask]
    assert seen == [[0, 1], [0, 1], [1, 2, 3], [1, 2, 3], [3, 4], [3, 4, 5]]


def test_latency_as_it_is_defined(tokenizer: Tokenizer) -> None:
    """24 frames of 20 ms: 480 ms at worst, and 5 ms that the last frame hears beyond its own."""
    student = student_of(tokenizer, streaming=StreamingSettings(chunk=24, history=0))
    (audio,) = noise(24 * 320 * 4 + 80)
    report = latency_report([stream_utterance(student, audio, packet=1)])
    assert report.frames == 96
    assert report.worst_seconds == pytest.approx(24 * 0.02 + 0.005)
    assert report.mean_seconds == pytest.approx(25 / 2 * 0.02 + 0.005)
    assert report.real_time_factor > 0
    assert report.worst_chunk_seconds >= report.chunk_seconds > 0


def test_a_whole_student_waits_for_the_end(tokenizer: Tokenizer) -> None:
    (audio,) = noise(16_000)
    streamed = stream_utterance(student_of(tokenizer), audio)
    assert max(streamed.waits) == pytest.approx(1.0)
    with pytest.raises(ConfigError, match="hears utterances whole"):
        ChunkedCTC(student_of(tokenizer))


@pytest.mark.parametrize("streaming", [None, StreamingSettings(chunk=20, history=0)])
def test_every_chunk_s_computing_is_counted(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, streaming
) -> None:
    """By a clock that the convolutions alone move on: a second each time."""
    now = 0.0

    def convolve(model: object, audio: Tensor) -> Tensor:
        nonlocal now
        now += 1.0
        return real(model, audio)

    real = ctc_network.convolve
    monkeypatch.setattr(ctc_network, "convolve", convolve)
    monkeypatch.setattr(latency.time, "perf_counter", lambda: now)
    streamed = stream_utterance(student_of(tokenizer, streaming=streaming), noise(16_000)[0])
    assert streamed.computing == ((1.0,) if streaming is None else (1.0, 1.0, 1.0))
    assert latency_report([streamed]).real_time_factor == len(streamed.computing)


def test_latency_needs_a_student_of_its_kind(tokenizer: Tokenizer) -> None:
    other = build_student(StudentSettings(hidden=16, layers=1, joint=12), tokenizer)
    with pytest.raises(ConfigError, match="of kind transducer"):
        stream_utterance(other, noise(16_000)[0])


@pytest.mark.parametrize("streaming", [None, StreamingSettings(chunk=3, history=4)])
def test_to_disk_and_back(tokenizer: Tokenizer, tmp_path: Path, streaming) -> None:
    wanted = {"hidden_2": {"layer": 1, "width": 5}}
    changes = CTCStudentSettings(kind="ctc", hidden_layers=wanted).hidden_layers
    student = student_of(tokenizer, streaming=streaming, hidden_layers=changes)
    path = save_student(student, tmp_path / "s")
    again, batch = load_student(path), batch_of(noise(*LENGTHS))
    assert again.streaming == streaming
    assert again.hidden_layers == student.hidden_layers
    before, after = student(batch), again(batch)
    assert torch.equal(before.ctc_logits_BTV, after.ctc_logits_BTV)
    assert torch.equal(before.layer_vectors["hidden_2"], after.layer_vectors["hidden_2"])
    told = json.loads((path / "config.json").read_text())
    assert (told["model_type"] == "wav2vec2") == (streaming is None)


def test_a_streaming_student_starts_from_a_whole_one(tokenizer: Tokenizer) -> None:
    student = student_of(tokenizer)
    wanted = CTCStudentSettings(kind="ctc", streaming={"chunk": 50, "history": 0})
    streams = student.begin(wanted)
    for name, weight in student.model.state_dict().items():
        assert torch.equal(streams.model.state_dict()[name], weight)
    assert streams.streaming == wanted.streaming
    assert student.streaming is None
    back = streams.begin(CTCStudentSettings(kind="ctc"))
    rows = padded(noise(8_000))
    assert torch.equal(back.hear(*rows).ctc_logits_BTV, student.hear(*rows).ctc_logits_BTV)
    assert student.begin(StudentSettings()) is student


def test_masks_are_drawn_by_utterance(tokenizer: Tokenizer) -> None:
    student, rows = student_of(tokenizer), noise(*LENGTHS)
    batch = batch_of(rows)
    plain, masked, again = (student(batch, a) for a in (None, SpecAugment(), SpecAugment()))
    assert torch.equal(masked.ctc_logits_BTV, again.ctc_logits_BTV)
    assert not torch.equal(masked.ctc_logits_BTV, plain.ctc_logits_BTV)
    turned = replace(batch_of(rows[:1]), ids=("z",))
    other = student(turned, SpecAugment()).ctc_logits_BTV
    assert not torch.allclose(other[0], masked.ctc_logits_BTV[0], atol=1e-4)


def test_in_16_bits_what_is_summed_stays_in_32(tokenizer: Tokenizer) -> None:
    batch = batch_of(noise(*LENGTHS))
    output = student_of(tokenizer)(batch, precision=torch.bfloat16)
    assert output.ctc_logits_BTV.dtype == torch.float32
    exact = student_of(tokenizer)(batch).ctc_logits_BTV
    torch.testing.assert_close(output.ctc_logits_BTV, exact, rtol=0.1, atol=0.1)


def test_audio_too_short_for_a_frame_gives_none(tokenizer: Tokenizer) -> None:
    output = student_of(tokenizer).hear(*padded(noise(16_000, 100)))
    assert output.frames_B.tolist() == [49, 0]
    assert (
        stream_utterance(
            student_of(tokenizer, streaming=StreamingSettings(chunk=2)), noise(100)[0]
        ).labels
        == []
    )


def test_another_tokenizer_is_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    student = student_of(tokenizer)
    path = save_student(student, tmp_path / "s")
    (path / "tokenizer.model").write_bytes(_bigger_tokenizer())
    with pytest.raises(TokenizerError, match="expected one more than tokens"):
        load_student(path)


def _bigger_tokenizer() -> bytes:
    from kdcache.corpus import train_sentencepiece

    made = train_sentencepiece(["abcdefghijklmnopqrstuvwxyz"], 60, "char")
    return made.files()["tokenizer.model"]


def test_the_first_convolution_begins_as_filters_along_the_mel_scale(tokenizer: Tokenizer) -> None:
    """A tone comes out of the filters around it, in whichever phase it comes in."""
    sizes = {"conv_channels": 66, "conv_kernels": (320, 3), "conv_strides": (80, 4)}
    student = student_of(tokenizer, first_filters="mel", **sizes)
    conv = student.model.wav2vec2.feature_extractor.conv_layers[0].conv
    filters = conv.weight[:64, 0]
    torch.testing.assert_close(filters.norm(dim=1), torch.full((64,), 2**0.5))
    assert not conv.bias.any()
    times, loudest = torch.arange(320) / 16_000, []
    for hertz in (200.0, 800.0, 3200.0):
        for phase in (0.0, 1.0, 2.0):
            out = filters @ torch.cos(2 * np.pi * hertz * times + phase)
            loudest.append(int(out.view(4, 16).square().sum(0).argmax()))
    assert loudest[0] == loudest[1] == loudest[2] < loudest[3] == loudest[4] == loudest[5]
    assert loudest[5] < loudest[6] == loudest[7] == loudest[8]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"hidden": 10, "heads": 4}, "multiple of heads"),
        ({"hidden": 12, "heads": 4, "position_groups": 5}, "multiple of position_groups"),
        ({"conv_kernels": [3, 3]}, "as many conv_kernels"),
        ({"conv_kernels": [3], "conv_strides": [0]}, "at least 1"),
        ({"layers": 2, "hidden_layers": {"h": {"layer": 3, "width": 4}}}, "up to layer 2"),
        ({"streaming": {"chunk": 0}}, "greater than or equal to 1"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(wrong: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        CTCStudentSettings(kind="ctc", **wrong)
