"""One synthesised utterance, a function of settings, split and number alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from kdcache.corpus.audio import resample, to_int16
from kdcache.corpus.synth import acoustics
from kdcache.corpus.synth.espeak import RATE, speak
from kdcache.corpus.synth.rng import pick, random_state
from kdcache.corpus.synth.text import make_text
from kdcache.corpus.synth.voices import voices_of_splits

if TYPE_CHECKING:
    from kdcache.corpus.synth.settings import SynthSettings

BABBLE_BANK = 10
"""Clean utterances from which babble noise is mixed."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """An utterance and how it was made.

    Attributes:
        id: split and number.
        text: lower-case words.
        voice: espeak-ng's name.
        samples: int16, (N,), at the settings' rate.
        snr: dB; ``None`` without noise.
        noise: its kind; ``None`` without noise.
        reverb: whether it was said in a room.
    """

    id: str
    text: str
    voice: str
    samples: np.ndarray
    snr: float | None
    noise: str | None
    reverb: bool


def make_utterance(settings: SynthSettings, split: str, number: int) -> Spoken:
    """The ``number``-th utterance of a split; the same whatever else is made, and where."""
    rng = random_state(settings.seed, settings.kind, split, number)
    text = make_text(settings.kind, settings.word_range, rng)
    voice = pick(rng, voices_of_splits(settings)[split])
    speech = _clean(settings, text, voice, rng)
    # Settings of noise and room never change which sentence or voice an utterance has.
    rng = random_state(settings.seed, settings.kind, split, number, "acoustics")
    reverb = bool(rng.random_sample() < settings.reverb)
    if reverb:
        speech = acoustics.reverberate(speech, settings.sample_rate, rng)
    noise, snr = None, None
    if settings.snr is not None:
        noise, snr = pick(rng, settings.noises), float(rng.uniform(*settings.snr))
        speech = acoustics.mix(speech, _noise(settings, split, noise, len(speech), rng), snr)
    samples = to_int16(acoustics.scaled_to_peak(speech, rng.uniform(-12.0, -1.0)))
    return Spoken(f"{split}-{number:06d}", text, voice, samples, snr, noise, reverb)


def _clean(
    settings: SynthSettings, text: str, voice: str, rng: np.random.RandomState
) -> np.ndarray:
    """float64 (N,) speech with a little silence before and after, in [−1, 1]."""
    rate, pitch = rng.randint(settings.rate[0], settings.rate[1] + 1), rng.randint(35, 66)
    spoken = _without_silence(speak(text, voice, rate, pitch, seed=rng.randint(2**31 - 1)))
    speech = resample(spoken.astype(np.float32) / 32768.0, RATE, settings.sample_rate)
    before, after = (round(rng.uniform(0.05, 0.25) * settings.sample_rate) for _ in range(2))
    return np.pad(speech.astype(np.float64), (before, after))


def _without_silence(samples: np.ndarray) -> np.ndarray:
    """The samples from the first to the last that is not quiet (espeak-ng appends a pause)."""
    loud = np.flatnonzero(np.abs(samples.astype(np.int32)) > 32)
    return samples[loud[0] : loud[-1] + 1] if len(loud) else samples


def _noise(
    settings: SynthSettings, split: str, kind: str, count: int, rng: np.random.RandomState
) -> np.ndarray:
    if kind == "babble":
        return acoustics.babble_noise(count, _babble_bank(_frozen(settings), split), rng)
    make = {"white": acoustics.white_noise, "pink": acoustics.pink_noise}[kind]
    return make(count, rng)


@dataclass(frozen=True)
class _Frozen:
    """Settings that can be a key: equal ones share the bank."""

    settings: SynthSettings
    key: str

    def __hash__(self) -> int:
        return hash(self.key)


def _frozen(settings: SynthSettings) -> _Frozen:
    return _Frozen(settings, repr(settings))


@lru_cache(maxsize=8)
def _babble_bank(frozen: _Frozen, split: str) -> tuple[np.ndarray, ...]:
    """Clean speech of the split's own voices, of sentences that are in no split."""
    settings = frozen.settings
    bank = []
    for number in range(BABBLE_BANK):
        rng = random_state(settings.seed, settings.kind, split, "babble", number)
        text = make_text("sentences", (4, 10), rng)
        voice = pick(rng, voices_of_splits(settings)[split])
        bank.append(_clean(settings, text, voice, rng))
    return tuple(bank)
