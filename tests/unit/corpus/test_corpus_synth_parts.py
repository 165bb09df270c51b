"""The parts of the synthesised corpus that need no espeak-ng: settings, texts, voices, noise."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest

from kdcache.corpus.synth import SynthSettings, acoustics, parse_int_range, parse_range
from kdcache.corpus.synth.rng import pick_early, random_state
from kdcache.corpus.synth.settings import parse_splits
from kdcache.corpus.synth.text import DIGITS, Grammar, load_grammar, make_text
from kdcache.corpus.synth.voices import ALL_VOICES, voices_of_splits
from kdcache.errors import ConfigError


def test_random_state_is_frozen() -> None:
    """These numbers are the corpus: should they ever change, every corpus changes."""
    assert random_state(7, "train", 0).randint(1_000_000, size=3).tolist() == [
        194677,
        960686,
        531430,
    ]
    assert random_state("a", "b").randint(2**31) != random_state("ab").randint(2**31)


def test_early_items_are_more_frequent() -> None:
    rng = random_state("zipf")
    drawn = [pick_early(rng, "abcdefgh") for _ in range(4_000)]
    counts = [drawn.count(letter) for letter in "abcdefgh"]
    assert min(counts) > 250
    assert counts[0] > 1.4 * counts[7]
    assert sum(counts[:4]) > sum(counts[4:])


@pytest.mark.parametrize(
    ("text", "utterances", "expected"),
    [
        (None, None, {"train": 1200, "dev": 150, "test": 150}),
        (None, 10, {"train": 8, "dev": 1, "test": 1}),
        ("train=3", None, {"train": 3}),
        ("train=1200, test=150", 1350, {"train": 1200, "test": 150}),
    ],
)
def test_splits(text: str | None, utterances: int | None, expected: dict[str, int]) -> None:
    assert parse_splits(text, utterances) == expected


@pytest.mark.parametrize("text", ["train", "train=x", "train=1,train=2", "train=-3", ""])
def test_bad_splits(text: str) -> None:
    with pytest.raises(ConfigError, match=r"expected each once, as in train=1200,test=150"):
        parse_splits(text, None)


def test_splits_that_do_not_add_up() -> None:
    with pytest.raises(ConfigError, match="--utterances 10, and splits that add up to 7"):
        parse_splits("train=4,test=3", 10)


def test_ranges() -> None:
    assert parse_range("snr", "-5:20.5") == (-5.0, 20.5)
    assert parse_range("snr", "10") == (10.0, 10.0)
    assert parse_int_range("words", "4:10") == (4, 10)
    with pytest.raises(ConfigError, match="Got snr 'loud', expected a range such as 5:20"):
        parse_range("snr", "loud")
    with pytest.raises(ConfigError, match=r"Got words '1\.5', expected a range such as 4:10"):
        parse_int_range("words", "1.5")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "sentence"}, r"Got kind 'sentence', .*Did you mean 'sentences'\?"),
        ({"noises": ("pink", "brown")}, "Got noise 'brown', expected one of white, pink, babble"),
        ({"noises": ()}, "Got noises none"),
        ({"splits": {}}, "Got splits none"),
        ({"splits": {"train": 0}}, "Got split train 0, expected at least 1"),
        ({"splits": {"../up": 3}}, "Got split '../up', expected a name of letters"),
        ({"words": (5, 4)}, "Got words 5:4, expected 1 ≤ low ≤ high"),
        ({"rate": (10, 200)}, "Got rate 10:200, expected 80"),
        ({"snr": (20.0, 5.0)}, r"Got snr 20\.0:5\.0, expected low ≤ high"),
        ({"reverb": 1.5}, r"Got reverb 1\.5, expected 0 to 1"),
        ({"sample_rate": 100}, "Got sample rate 100"),
    ],
)
def test_bad_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SynthSettings(**settings)


def test_settings_as_json() -> None:
    data = SynthSettings(kind="digits").to_dict()
    assert json.loads(json.dumps(data)) == data
    assert data["words"] == [3, 8]
    assert data["version"] == 1
    assert SynthSettings(snr=None, noises=()).to_dict()["snr"] is None


def test_grammar_has_a_vocabulary_to_learn() -> None:
    grammar = load_grammar()
    assert 200 <= len(grammar.vocabulary) <= 400
    assert all(re.fullmatch(r"[a-z']+", word) for word in grammar.vocabulary)
    for word in ("on", "no", "yes"):  # what YAML 1.1 would read as true or false
        assert all(word.title() not in words for words in grammar.classes.values())
    assert "on" in grammar.vocabulary


def test_every_class_is_used_and_every_slot_is_a_class() -> None:
    grammar = load_grammar()
    named = set(re.findall(r"\{(\w+)\}", " ".join(grammar.patterns)))
    assert named == set(grammar.classes)
    assert all(len(set(words)) == len(words) for words in grammar.classes.values())


def test_sentences() -> None:
    texts = [make_text("sentences", (4, 10), random_state("s", i)) for i in range(300)]
    assert {len(text.split()) for text in texts} == set(range(4, 11))
    assert all(re.fullmatch(r"[a-z']+( [a-z']+)*", text) for text in texts)
    assert len(set(texts)) > 290
    assert texts == [make_text("sentences", (4, 10), random_state("s", i)) for i in range(300)]


def test_lengths_that_the_grammar_cannot_meet() -> None:
    with pytest.raises(ConfigError, match="no sentence of 30 to 35 words"):
        make_text("sentences", (30, 35), random_state("x"))


def test_small_grammar() -> None:
    grammar = Grammar({"a": ("red",), "n": ("big boat", "cat")}, ("the {a} {n}",))
    assert grammar.vocabulary == ("big", "boat", "cat", "red", "the")
    said = {grammar.sentence(random_state(i)) for i in range(20)}
    assert said == {"the red big boat", "the red cat"}


def test_digits() -> None:
    texts = [make_text("digits", (3, 5), random_state("d", i)).split() for i in range(200)]
    assert {len(text) for text in texts} == {3, 4, 5}
    assert {word for text in texts for word in text} == set(DIGITS)


def test_voices_are_shared_unless_held_out() -> None:
    voices = voices_of_splits(SynthSettings(voices=12))
    assert voices["train"] == voices["test"]
    assert len(set(voices["train"])) == 12
    assert set(voices["train"]) <= set(ALL_VOICES)


@pytest.mark.parametrize(("count", "sizes"), [(40, (32, 4, 4)), (12, (10, 1, 1)), (3, (1, 1, 1))])
def test_held_out_voices_are_disjoint(count: int, sizes: tuple[int, ...]) -> None:
    voices = voices_of_splits(SynthSettings(voices=count, held_out_voices=True))
    assert tuple(len(v) for v in voices.values()) == sizes
    assert len({voice for v in voices.values() for voice in v}) == count


def test_held_out_voices_of_many_splits() -> None:
    splits = {f"s{i}": 1 for i in range(14)}
    voices = voices_of_splits(SynthSettings(splits=splits, voices=20, held_out_voices=True))
    assert len({voice for v in voices.values() for voice in v}) == 20


@pytest.mark.parametrize(("count", "held_out"), [(0, False), (500, False), (2, True)])
def test_impossible_numbers_of_voices(count: int, held_out: bool) -> None:
    with pytest.raises(ConfigError, match=f"Got {count} voices, expected"):
        voices_of_splits(SynthSettings(voices=count, held_out_voices=held_out))


def test_another_seed_chooses_other_voices() -> None:
    one, two = (voices_of_splits(SynthSettings(seed=s, voices=8))["train"] for s in (1, 2))
    assert set(one) != set(two)


def power_db(samples: np.ndarray) -> float:
    return 20 * float(np.log10(acoustics.rms(samples)))


def band_power(samples: np.ndarray, low: int, high: int) -> float:
    spectrum = np.abs(np.fft.rfft(samples, 16_000 * 4)) ** 2
    return float(10 * np.log10(spectrum[low * 4 : high * 4].sum()))


def test_white_noise_is_flat_and_pink_noise_falls() -> None:
    white = acoustics.white_noise(64_000, random_state("w"))
    pink = acoustics.pink_noise(64_000, random_state("p"))
    octaves = [(500, 1000), (1000, 2000), (2000, 4000)]
    for noise, slope in ((white, 3.0), (pink, 0.0)):  # dB an octave, of whole octaves
        powers = [band_power(noise, *octave) for octave in octaves]
        assert np.diff(powers) == pytest.approx([slope, slope], abs=0.7)


@pytest.mark.parametrize("count", [1, 2, 997, 16_001])
def test_noise_of_any_length(count: int) -> None:
    voices = [random_state("v", i).standard_normal(300 + i) for i in range(6)]
    for noise in (
        acoustics.white_noise(count, random_state(1)),
        acoustics.pink_noise(count, random_state(1)),
        acoustics.babble_noise(count, voices, random_state(1)),
    ):
        assert noise.shape == (count,)
        assert np.isfinite(noise).all()


def test_babble_is_several_voices_at_equal_level() -> None:
    loud, soft = np.full(100, 9.0), np.full(100, 0.1)
    noise = acoustics.babble_noise(50, [loud, soft, loud, soft], random_state(1))
    np.testing.assert_allclose(noise, 4.0)


@pytest.mark.parametrize("snr", [-5.0, 0.0, 12.5])
def test_mix_meets_the_ratio(snr: float) -> None:
    speech = np.sin(np.arange(8_000) * 0.1)
    mixed = acoustics.mix(speech, acoustics.white_noise(8_000, random_state(3)), snr)
    assert power_db(speech) - power_db(mixed - speech) == pytest.approx(snr, abs=1e-6)


def test_mixing_silence_adds_nothing() -> None:
    speech = np.sin(np.arange(100) * 0.1)
    np.testing.assert_array_equal(acoustics.mix(speech, np.zeros(100), 5.0), speech)


def test_room_keeps_direct_sound_and_length() -> None:
    click = np.zeros(8_000)
    click[100] = 1.0
    heard = acoustics.reverberate(click, 16_000, random_state("room"))
    assert heard.shape == click.shape
    np.testing.assert_allclose(heard[:100], 0.0, atol=1e-12)
    assert heard[100] == pytest.approx(1.0)
    early, late = heard[140:1_000], heard[5_000:7_000]
    assert 0.0 < acoustics.rms(late) < acoustics.rms(early) < 0.1


def test_room_is_a_convolution() -> None:
    """Superposition: the room of a sum is the sum of the rooms."""
    a, b = (random_state("x", i).standard_normal(3_000) for i in range(2))
    rooms = [acoustics.reverberate(x, 8_000, random_state("r")) for x in (a, b, a + b)]
    np.testing.assert_allclose(rooms[0] + rooms[1], rooms[2], atol=1e-9)


def test_peak() -> None:
    scaled = acoustics.scaled_to_peak(np.array([0.1, -0.4]), -6.0)
    assert np.abs(scaled).max() == pytest.approx(10 ** (-6 / 20))
    np.testing.assert_array_equal(acoustics.scaled_to_peak(np.zeros(3), -6.0), np.zeros(3))
