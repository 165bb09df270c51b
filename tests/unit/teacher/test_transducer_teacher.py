from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from kdcache.errors import TeacherError
from kdcache.teacher import load_teacher
from kdcache.teacher.directory import CTC_HEAD

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kdcache.teacher import LatticeLogits


@pytest.fixture(scope="module")
def audio() -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    return [rng.normal(0, 0.1, length).astype(np.float32) for length in (6400, 4000)]


def _features(teacher: Any, audio: list[np.ndarray]) -> Any:
    return teacher.extractor(audio, sampling_rate=16000, return_tensors="pt")


def _greedy(lattice: LatticeLogits, labels: list[int], most: int) -> list[int]:
    """What greedy decoding emits along a lattice that is conditioned on its own output."""
    best_TU = lattice.rows(0, lattice.shape[0]).argmax(-1).tolist()
    emitted: list[int] = []
    for row_U in best_TU:
        for _ in range(most):
            token = row_U[len(emitted)] if len(emitted) < len(row_U) else lattice.blank
            if token == lattice.blank:
                break
            emitted.append(token)
    return emitted


def test_greedy_decoding_agrees_with_generate(
    loaded: Callable[[str], Any], audio: list[np.ndarray]
) -> None:
    teacher = loaded("transducer")
    decoded = 0
    for samples in audio:
        inputs = _features(teacher, [samples])
        (ids,) = teacher.model.generate(**inputs).sequences.tolist()
        assert ids[0] == teacher.start_id == teacher.blank_id
        labels = [i for i in ids[1:] if i != teacher.blank_id]
        (output,) = teacher.forward([samples], [labels])
        most = teacher.model.max_symbols_per_step
        assert _greedy(output.lattice, labels, most)[: len(labels)] == labels
        decoded += len(labels)
    assert decoded > 10


def test_lattice_is_the_models_own(loaded: Callable[[str], Any], audio: list[np.ndarray]) -> None:
    teacher, labels = loaded("transducer"), [3, 1, 4]
    (output,) = teacher.forward(audio[:1], [labels])
    logits_BTUV = teacher.model(
        **_features(teacher, audio[:1]),
        decoder_input_ids=torch.tensor([[teacher.blank_id, *labels]]),
    ).logits
    frames = output.frames
    assert output.lattice.shape == (frames, 4)
    torch.testing.assert_close(output.lattice.rows(0, frames), logits_BTUV[0, :frames])
    torch.testing.assert_close(output.lattice.rows(2, 5), logits_BTUV[0, 2:5])


def test_start_follows_the_generation_config(copy: Callable[[str], Path]) -> None:
    teacher = load_teacher(copy("transducer"))
    teacher.model.generation_config.decoder_start_token_id = 2
    assert teacher.start_id == 2
    teacher.model.generation_config.decoder_start_token_id = None
    assert teacher.start_id == teacher.blank_id


def test_what_it_says_of_itself(loaded: Callable[[str], Any]) -> None:
    spec = loaded("transducer").spec
    assert spec.targets == ("features", "hidden", "lattice")
    assert spec.frame_shift == pytest.approx(0.04)
    assert spec.blank_id == spec.vocab_size - 1 == loaded("transducer").tokenizer.vocab_size
    assert (spec.hidden_size, spec.sample_rate, spec.name) == (32, 16000, "transducer")


def test_no_encoder_logits_without_a_head(
    loaded: Callable[[str], Any], audio: list[np.ndarray]
) -> None:
    for output in loaded("transducer").forward(audio, [(1,), (2,)]):
        assert output.frame_logits_TV is None


def test_encoder_logits_from_an_auxiliary_head(
    loaded: Callable[[str], Any], saved: dict[str, Path], audio: list[np.ndarray]
) -> None:
    from safetensors.torch import load_file

    teacher, head = loaded("head"), load_file(saved["head"] / CTC_HEAD)
    assert "encoder_logits" in teacher.spec.targets
    for output in teacher.forward(audio, [(1,), (2,)]):
        expected = output.hidden_TD @ head["weight"].T + head["bias"]
        torch.testing.assert_close(output.frame_logits_TV, expected)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"weight": torch.zeros(3, 32), "bias": torch.zeros(3)}, "belongs to another model"),
        ({"weight": torch.zeros(17, 32)}, "expected weight"),
        (None, "cannot be read"),
    ],
)
def test_a_head_that_does_not_fit(
    copy: Callable[[str], Path], tensors: dict[str, torch.Tensor] | None, message: str
) -> None:
    path = copy("head")
    if tensors is None:
        (path / CTC_HEAD).write_bytes(b"nonsense")
    else:
        save_file(tensors, path / CTC_HEAD)
    with pytest.raises(TeacherError, match=message):
        load_teacher(path)


def test_features_are_the_extractors(loaded: Callable[[str], Any], audio: list[np.ndarray]) -> None:
    teacher = loaded("transducer")
    (output,) = teacher.forward(audio[:1], [()])
    inputs = _features(teacher, audio[:1])
    real = inputs["attention_mask"][0].bool()
    torch.testing.assert_close(output.features_FM, inputs["input_features"][0][real])
    assert output.features_FM.shape == (40, 80)
