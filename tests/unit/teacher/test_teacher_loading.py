from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.utils import logging as transformers_logging

from kdcache.corpus.tokenizer import train_sentencepiece
from kdcache.errors import AudioError, ConfigError, TeacherError, TokenizerError, TranscriptError
from kdcache.teacher import load_teacher
from kdcache.teacher.model import parse_device, parse_dtype, quiet_transformers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _drop(path: Path, name: str) -> Path:
    weights = load_file(path / "model.safetensors")
    del weights[name]
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    return path


def test_dtypes() -> None:
    assert parse_dtype("bfloat16") is torch.bfloat16
    with pytest.raises(ConfigError, match="dtype is 'float64'; expected one of float32"):
        parse_dtype("float64")


@pytest.mark.parametrize(
    "name", ["cpu:one", "nonsense", "xpu" if torch.cuda.is_available() else "cuda"]
)
def test_devices_that_are_not_here(name: str) -> None:
    with pytest.raises(ConfigError, match=f"Device '{name}' cannot be used"):
        parse_device(name)


def test_device_and_dtype_are_checked_on_loading(saved: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match="Device 'nonsense'"):
        load_teacher(saved["ctc"], device="nonsense")
    with pytest.raises(ConfigError, match="dtype is 'int8'"):
        load_teacher(saved["ctc"], dtype="int8")


def test_a_missing_output_layer_is_not_made_up(copy: Callable[[str], Path]) -> None:
    with pytest.raises(TeacherError, match=r"the weights lack lm_head.weight \(1 missing in all\)"):
        load_teacher(_drop(copy("wav2vec2"), "lm_head.weight"))


def test_a_mask_embedding_may_be_missing(copy: Callable[[str], Path]) -> None:
    teacher = load_teacher(_drop(copy("wav2vec2"), "wav2vec2.masked_spec_embed"))
    assert teacher.spec.vocab_size > 1


def test_weights_of_another_shape(copy: Callable[[str], Path]) -> None:
    path = copy("ctc")
    weights = load_file(path / "model.safetensors")
    weights["ctc_head.bias"] = torch.zeros(3)
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(TeacherError):
        load_teacher(path)


def test_truncated_weights(copy: Callable[[str], Path]) -> None:
    path = copy("ctc")
    file = path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(TeacherError, match="cannot be loaded as ParakeetForCTC"):
        load_teacher(path)


def test_a_config_that_fits_no_model(copy: Callable[[str], Path]) -> None:
    path = copy("ctc")
    config = json.loads((path / "config.json").read_text())
    config["encoder_config"]["hidden_size"] = "wide"
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(TeacherError, match="cannot be loaded as ParakeetForCTC"):
        load_teacher(path)


def test_a_broken_feature_extractor(copy: Callable[[str], Path]) -> None:
    path = copy("ctc")
    (path / "preprocessor_config.json").write_text("{")
    with pytest.raises(TeacherError, match="cannot be loaded as ParakeetFeatureExtractor"):
        load_teacher(path)


@pytest.mark.parametrize("name", ["transducer", "wav2vec2", "whisper"])
def test_tokenizer_of_another_model(copy: Callable[[str], Path], name: str) -> None:
    path = copy(name)
    letters = "abcdefghijklmnopqrstuvwxyz"
    train_sentencepiece([" ".join(letters)], len(letters) + 2, "char").save(path)
    with pytest.raises(TokenizerError, match=r"the tokenizer has 28 tokens and the model \d+ cl"):
        load_teacher(path)


def test_blank_that_is_no_class(copy: Callable[[str], Path]) -> None:
    path = copy("ctc")
    config = json.loads((path / "config.json").read_text())
    config["pad_token_id"] = 99
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(TeacherError, match="pad_token_id 99, expected blank's class id, from 0"):
        load_teacher(path)


@pytest.mark.parametrize("name", ["transducer", "ctc", "wav2vec2", "whisper"])
def test_half_precision_is_near(
    saved: dict[str, Path], loaded: Callable[[str], Any], name: str
) -> None:
    audio = [np.random.default_rng(0).normal(0, 0.1, 8000).astype(np.float32)]
    full, half = loaded(name), load_teacher(saved[name], dtype="bfloat16")
    (one,), (other,) = full.forward(audio, [(1, 2)]), half.forward(audio, [(1, 2)])
    assert other.hidden_TD.dtype is torch.bfloat16
    assert one.frames == other.frames
    difference = (one.hidden_TD - other.hidden_TD.float()).abs().mean()
    assert difference < 0.1 * one.hidden_TD.abs().mean()


def test_nothing_is_left_to_train(loaded: Callable[[str], Any]) -> None:
    model = loaded("transducer").model
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_quiet_puts_the_level_back() -> None:
    before = transformers_logging.get_verbosity()
    with quiet_transformers():
        assert transformers_logging.get_verbosity() == transformers_logging.ERROR
    assert transformers_logging.get_verbosity() == before


def test_loading_is_silent(saved: dict[str, Path], capfd: pytest.CaptureFixture[str]) -> None:
    load_teacher(saved["whisper"])
    assert capfd.readouterr() == ("", "")


def test_as_many_token_sequences_as_utterances(loaded: Callable[[str], Any]) -> None:
    with pytest.raises(ValueError, match="1 utterances have 2 token sequences"):
        loaded("ctc").forward([np.zeros(8000, np.float32)], [(), ()])


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros(10, np.float32), r"0.001 s of audio are less than the 0.020 s"),
        (np.zeros((2, 8000), np.float32), r"shape \(2, 8000\), expected one channel"),
        (np.full(8000, np.inf, np.float32), "NaN or infinite samples"),
    ],
)
def test_audio_that_cannot_be_used(
    loaded: Callable[[str], Any], samples: np.ndarray, message: str
) -> None:
    with pytest.raises(AudioError, match=message):
        loaded("transducer").forward([samples], [()])


def test_digital_silence_can_be_used(loaded: Callable[[str], Any]) -> None:
    for name in ("transducer", "ctc", "wav2vec2", "group", "whisper"):
        (output,) = loaded(name).forward([np.zeros(8000, np.float32)], [(1,)])
        assert bool(output.hidden_TD.isfinite().all()), name


def test_token_that_is_no_label(loaded: Callable[[str], Any]) -> None:
    audio = [np.zeros(8000, np.float32)]
    with pytest.raises(TranscriptError, match="Token id 400 is no label of this teacher"):
        loaded("transducer").forward(audio, [(1, 400)])


@pytest.mark.parametrize("name", ["transducer", "ctc", "wav2vec2", "group"])
def test_the_shortest_audio_gives_a_frame(loaded: Callable[[str], Any], name: str) -> None:
    teacher = loaded(name)
    samples = np.random.default_rng(0).normal(0, 0.1, teacher.shortest_audio).astype(np.float32)
    (output,) = teacher.forward([samples], [()])
    assert output.frames >= 1
    assert bool(output.hidden_TD.isfinite().all())
    with pytest.raises(AudioError, match="are less than"):
        teacher.forward([samples[1:]], [()])
