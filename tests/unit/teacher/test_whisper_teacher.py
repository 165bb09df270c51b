from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from kdcache.errors import AudioError, TeacherError, TranscriptError
from kdcache.teacher.prompt import Prompt, read_prompt

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(scope="module")
def audio() -> list[np.ndarray]:
    rng = np.random.default_rng(7)
    return [rng.normal(0, scale, 16000).astype(np.float32) for scale in (0.1, 0.01, 0.3)]


def _inputs(teacher: Any, audio: list[np.ndarray]) -> torch.Tensor:
    out = teacher.extractor(audio, sampling_rate=16000, return_tensors="pt")
    features: torch.Tensor = out["input_features"]
    return features


def test_greedy_decoding_agrees_with_generate(
    loaded: Callable[[str], Any], audio: list[np.ndarray]
) -> None:
    teacher = loaded("whisper")
    for samples in audio:
        features = _inputs(teacher, [samples])
        generated = teacher.model.generate(features, max_new_tokens=6)[0].tolist()
        end = teacher.model.config.eos_token_id
        tokens = [token for token in generated if token != end]
        assert tokens
        (output,) = teacher.forward([samples], [tokens])
        assert output.token_logits_UV.argmax(-1).tolist()[: len(generated)] == generated


def test_the_prompt_of_a_saved_model(loaded: Callable[[str], Any]) -> None:
    silent, start = (loaded("whisper").tokenizer.vocab_size + i for i in (2, 0))
    assert loaded("whisper")._prompt.tokens == (start, silent)
    assert loaded("multilingual")._prompt.tokens == (start, None, start + 3, silent)


@pytest.mark.parametrize("name", ["whisper", "multilingual"])
def test_prompts_are_those_of_generate(
    loaded: Callable[[str], Any], audio: list[np.ndarray], name: str
) -> None:
    teacher = loaded(name)
    features = _inputs(teacher, audio)
    config = teacher.model.generation_config
    config.return_timestamps = False
    assert len(expected_languages := set(config.to_dict().get("lang_to_id", {}).values())) in (0, 3)
    expected = teacher.model._retrieve_init_tokens(
        features, len(audio), config, teacher.model.config, features.shape[-1], {}
    )
    hidden_BTD = teacher.model.model.encoder(features).last_hidden_state
    prompts = teacher._prompts(hidden_BTD).tolist()
    assert prompts == expected.tolist()
    assert not expected_languages or all(row[1] in expected_languages for row in prompts)


def test_rows_are_the_models_own(loaded: Callable[[str], Any], audio: list[np.ndarray]) -> None:
    teacher, tokens = loaded("whisper"), (3, 5, 2)
    (output,) = teacher.forward(audio[:1], [tokens])
    ids = torch.tensor([[*teacher._prompt.tokens, *tokens]])
    with torch.no_grad():
        logits = teacher.model(_inputs(teacher, audio[:1]), decoder_input_ids=ids).logits[0]
    torch.testing.assert_close(output.token_logits_UV, logits[-4:])


def test_frames_are_the_real_ones(loaded: Callable[[str], Any]) -> None:
    teacher = loaded("whisper")
    for length, frames, feature_frames in ((1, 1, 1), (320, 1, 2), (321, 2, 3), (48000, 150, 300)):
        (output,) = teacher.forward([np.zeros(length, np.float32)], [()])
        assert output.frames == len(output.hidden_TD) == frames
        assert output.features_FM.shape == (feature_frames, 80)
        assert output.token_logits_UV.shape == (1, teacher.spec.vocab_size)


def test_audio_beyond_the_window_is_refused(loaded: Callable[[str], Any]) -> None:
    with pytest.raises(AudioError, match=r"3.10 s of audio are more than the 3 s"):
        loaded("whisper").forward([np.zeros(49600, np.float32)], [()])


def test_more_tokens_than_the_decoder_holds(
    loaded: Callable[[str], Any], audio: list[np.ndarray]
) -> None:
    teacher = loaded("whisper")
    room = teacher.model.config.max_target_positions - teacher._prompt.length
    (output,) = teacher.forward(audio[:1], [(1,) * room])
    assert len(output.token_logits_UV) == room + 1
    with pytest.raises(TranscriptError, match=f"{room + 1} tokens are more than the {room}"):
        teacher.forward(audio[:1], [(1,) * (room + 1)])


def test_what_it_says_of_itself(loaded: Callable[[str], Any]) -> None:
    spec = loaded("whisper").spec
    assert spec.blank_id is None
    assert spec.frame_shift == pytest.approx(0.02)
    assert spec.targets == ("decoder_logits", "features", "hidden")
    assert spec.hidden_size == 16


LANGUAGES = {"<|en|>": 10, "<|de|>": 11}
TASKS = {"transcribe": 20, "translate": 21}
MANY = {"lang_to_id": LANGUAGES, "task_to_id": TASKS, "no_timestamps_token_id": 30}


@pytest.mark.parametrize(
    ("generation", "config", "expected"),
    [
        ({}, {}, (1,)),
        ({"no_timestamps_token_id": 30}, {}, (1, 30)),
        ({**MANY, "language": "en"}, {}, (1, 10, 20, 30)),
        ({**MANY, "language": "German", "task": "translate"}, {}, (1, 11, 21, 30)),
        ({**MANY, "language": "<|de|>"}, {}, (1, 11, 20, 30)),
        ({**MANY, "task": "transcribe"}, {}, (1, None, 20, 30)),
        ({**MANY, "forced_decoder_ids": [[1, 11], [2, 21]]}, {}, (1, 11, 21, 30)),
        ({**MANY, "forced_decoder_ids": [[1, None], [2, 20]]}, {}, (1, None, 20, 30)),
        ({**MANY, "forced_decoder_ids": [[1, 11]], "language": "en"}, {}, (1, 10, 20, 30)),
        ({"no_timestamps_token_id": 30}, {"forced_decoder_ids": [[1, 30]]}, (1, 30)),
        ({"forced_decoder_ids": [[1, None], [2, 20]]}, {}, (1, 20)),
        (MANY, {}, (1, None, 30)),
    ],
)
def test_prompt_of_configs(
    generation: dict[str, Any], config: dict[str, Any], expected: tuple[int | None, ...]
) -> None:
    generation = {"decoder_start_token_id": 1, **generation}
    prompt = read_prompt(SimpleNamespace(**generation), SimpleNamespace(**config), "here")
    assert prompt.tokens == expected
    assert prompt.length == len(expected)
    assert prompt.languages == ((10, 11) if "lang_to_id" in generation else ())


def test_start_token_of_the_model_config() -> None:
    empty = SimpleNamespace(decoder_start_token_id=None)
    assert read_prompt(empty, SimpleNamespace(decoder_start_token_id=4), "here") == Prompt((4,))
    with pytest.raises(TeacherError, match="neither config names a decoder_start_token_id"):
        read_prompt(empty, SimpleNamespace(), "here")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"language": "klingon"}, "asks for language 'klingon', which is not in its lang_to_id"),
        ({"task": "transcript"}, r"asks for task 'transcript'.*Did you mean 'transcribe'\?"),
    ],
)
def test_unknown_language_or_task(setting: dict[str, str], message: str) -> None:
    generation = SimpleNamespace(decoder_start_token_id=1, **MANY, **setting)
    with pytest.raises(TeacherError, match=message):
        read_prompt(generation, SimpleNamespace(), "here")
