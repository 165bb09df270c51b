"""Greedy decoding agrees with the model's own generation, alone and in a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from kdcache.score.greedy import greedy_decode
from kdcache.student import load_student
from kdcache.testing.small_teachers import save_small_transducer

if TYPE_CHECKING:
    from pathlib import Path

    from kdcache.student import TransducerStudent


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> TransducerStudent:
    """A random student, made talkative: weights large enough that labels win now and then."""
    folder: Path = tmp_path_factory.mktemp("student")
    texts = ["one two three four", "five six seven"]
    loaded = load_student(save_small_transducer(folder, texts, hidden=32, layers=1, seed=0))
    with torch.no_grad():
        for name, weight in loaded.model.named_parameters():
            if "joint.head.weight" in name or "projector" in name or "embedding" in name:
                weight.mul_(20)
        loaded.model.joint.head.bias[loaded.blank] += 3
    return loaded


def noise(*lengths: int) -> list[np.ndarray]:
    random = np.random.RandomState(0)
    return [0.1 * random.randn(n).astype(np.float32) for n in lengths]


def encoded(student: TransducerStudent, samples: list[np.ndarray]) -> tuple[torch.Tensor, ...]:
    lengths_B = torch.tensor([len(row) for row in samples])
    audio_BN = torch.nn.utils.rnn.pad_sequence(
        [torch.from_numpy(row) for row in samples], batch_first=True
    )
    features_BFM, mask_BF = student.features(audio_BN, lengths_B)
    with torch.no_grad():
        _, encoder_BTJ, frames_B = student.encode(features_BFM, mask_BF)
    return features_BFM, mask_BF, encoder_BTJ, frames_B


def test_agrees_with_the_models_own_generation(student: TransducerStudent) -> None:
    features_BFM, mask_BF, encoder_BTJ, frames_B = encoded(student, noise(12_345))
    (found,) = greedy_decode(student.model, encoder_BTJ, frames_B)
    steps = len(found) + int(frames_B[0])
    expected = student.model.generate(
        input_features=features_BFM, attention_mask=mask_BF, max_new_tokens=steps + 1
    )
    sequence = getattr(expected, "sequences", expected)[0].tolist()
    assert found
    assert found == [label for label in sequence if label != student.blank]


def test_an_utterance_is_decoded_alike_alone_and_in_a_batch(student: TransducerStudent) -> None:
    samples = noise(16_000, 9_000, 30_000)
    *_, encoder_BTJ, frames_B = encoded(student, samples)
    together = greedy_decode(student.model, encoder_BTJ, frames_B)
    alone = []
    for row in samples:
        *_, encoder_BTJ, frames_B = encoded(student, [row])
        alone += greedy_decode(student.model, encoder_BTJ, frames_B)
    assert together == alone


def test_a_frame_emits_at_most_so_many_labels(student: TransducerStudent) -> None:
    *_, encoder_BTJ, frames_B = encoded(student, noise(8_000))
    (labels,) = greedy_decode(student.model, encoder_BTJ, frames_B, max_symbols=2)
    assert len(labels) <= 2 * int(frames_B[0])
