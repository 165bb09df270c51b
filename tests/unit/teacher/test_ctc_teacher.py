from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from transformers import (
    Data2VecAudioForCTC,
    HubertForCTC,
    UniSpeechForCTC,
    UniSpeechSatForCTC,
    Wav2Vec2ConformerForCTC,
    WavLMForCTC,
)

from kdcache.teacher import load_teacher
from kdcache.teacher.waveform_ctc import WaveformCTCTeacher
from kdcache.testing.small_teachers import save_small_wav2vec2

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="module")
def audio() -> list[np.ndarray]:
    rng = np.random.default_rng(6)
    return [rng.normal(0, 0.1, length).astype(np.float32) for length in (6400, 3001, 6400, 9000)]


LABELS = [(1,), (2,), (3,), (4,)]


def test_parakeet_agrees_with_generate(
    loaded: Callable[[str], Any], audio: list[np.ndarray]
) -> None:
    teacher = loaded("ctc")
    inputs = teacher.extractor(audio, sampling_rate=16000, return_tensors="pt")
    expected = teacher.model.generate(**inputs)
    for row, output in enumerate(teacher.forward(audio, LABELS)):
        best = output.frame_logits_TV.argmax(-1)
        assert best.tolist() == expected[row, : output.frames].tolist()


def test_wav2vec2_is_the_models_own(loaded: Callable[[str], Any], audio: list[np.ndarray]) -> None:
    teacher = loaded("wav2vec2")
    for samples, labels in zip(audio, LABELS, strict=True):
        inputs = teacher.extractor(samples, sampling_rate=16000, return_tensors="pt")
        with torch.no_grad():
            expected = teacher.model(inputs["input_values"]).logits[0]
        (output,) = teacher.forward([samples], [labels])
        assert output.frames == len(expected)
        torch.testing.assert_close(output.frame_logits_TV, expected)


@pytest.mark.parametrize("name", ["ctc", "wav2vec2", "group"])
def test_labels_change_nothing(
    loaded: Callable[[str], Any], audio: list[np.ndarray], name: str
) -> None:
    one, other = (loaded(name).forward(audio, tokens) for tokens in (LABELS, LABELS[::-1]))
    for left, right in zip(one, other, strict=True):
        assert torch.equal(left.frame_logits_TV, right.frame_logits_TV)
        assert left.tokens != right.tokens


@pytest.mark.parametrize(
    ("name", "shift", "targets"),
    [
        ("ctc", 0.04, ("encoder_logits", "features", "hidden")),
        ("wav2vec2", 0.02, ("encoder_logits", "hidden")),
        ("group", 0.02, ("encoder_logits", "hidden")),
    ],
)
def test_what_they_say_of_themselves(
    loaded: Callable[[str], Any], name: str, shift: float, targets: tuple[str, ...]
) -> None:
    spec = loaded(name).spec
    assert spec.frame_shift == pytest.approx(shift)
    assert spec.targets == targets
    assert spec.blank_id == spec.vocab_size - 1


def test_only_equal_lengths_share_a_batch_under_group_norm(
    loaded: Callable[[str], Any], audio: list[np.ndarray]
) -> None:
    assert loaded("group")._groups(audio) == [[0, 2], [1], [3]]
    assert loaded("wav2vec2")._groups(audio) == [[0, 1, 2, 3]]


def _worst(teacher: Any, audio: list[np.ndarray]) -> float:
    """Largest difference of an utterance's logits alone and in a batch."""
    together = teacher.forward(audio, LABELS)
    alone = [teacher.forward([samples], [()])[0] for samples in audio]
    return max(
        float((one.frame_logits_TV - other.frame_logits_TV).abs().max())
        for one, other in zip(together, alone, strict=True)
    )


def test_group_norm_would_leak_padding(
    loaded: Callable[[str], Any], audio: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = loaded("group")
    assert _worst(teacher, audio) < 1e-4
    monkeypatch.setattr(WaveformCTCTeacher, "masks_padding", True)
    assert _worst(teacher, audio) > 1e-2


@pytest.mark.parametrize(
    ("model_class", "settings", "masked"),
    [
        (HubertForCTC, {}, True),
        (HubertForCTC, {"conv_pos_batch_norm": True}, False),
        (WavLMForCTC, {}, True),
        (UniSpeechForCTC, {}, True),
        (UniSpeechSatForCTC, {}, True),
        (Wav2Vec2ConformerForCTC, {}, False),
        (Data2VecAudioForCTC, {}, False),
    ],
)
def test_kin_do_not_depend_on_their_batch(
    tmp_path: Path,
    texts: list[str],
    audio: list[np.ndarray],
    model_class: type,
    settings: dict[str, Any],
    masked: bool,
) -> None:
    path = save_small_wav2vec2(tmp_path, texts, layers=2, model_class=model_class, **settings)
    teacher = load_teacher(path)
    assert isinstance(teacher, WaveformCTCTeacher)
    assert teacher.masks_padding is masked
    assert _worst(teacher, audio) < 1e-4


def test_adapter_layers_lengthen_the_frame_shift(
    tmp_path: Path, texts: list[str], audio: list[np.ndarray]
) -> None:
    path = save_small_wav2vec2(
        tmp_path, texts, add_adapter=True, num_adapter_layers=2, output_hidden_size=24
    )
    teacher = load_teacher(path)
    assert teacher.spec.frame_shift == pytest.approx(0.08)
    assert teacher.spec.hidden_size == 24
    for output, samples in zip(teacher.forward(audio, LABELS), audio, strict=True):
        assert output.hidden_TD.shape == (output.frames, 24)
        assert abs(output.frames - len(samples) / 16000 / 0.08) <= 2
    assert _worst(teacher, audio) < 1e-4
