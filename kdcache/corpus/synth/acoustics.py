"""Rooms and noise for clean speech. Shapes: N samples. Everything is float64 until rounded.

The signal-to-noise ratio is the ratio of mean powers over the whole utterance, speech
(with its room) against noise, in dB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

BABBLERS = 4
"""Voices that talk at once in babble noise."""


def white_noise(count: int, rng: np.random.RandomState) -> np.ndarray:
    """(N,) Gaussian noise, flat in frequency."""
    return np.asarray(rng.standard_normal(count))


def pink_noise(count: int, rng: np.random.RandomState) -> np.ndarray:
    """(N,) noise whose power falls by 3 dB an octave: a white spectrum over √f."""
    size = 1 << (count - 1).bit_length()  # a power of two: other lengths may take far longer
    spectrum = np.fft.rfft(rng.standard_normal(size))
    spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 1))
    return np.asarray(np.fft.irfft(spectrum, n=size)[:count])


def babble_noise(
    count: int, voices: Sequence[np.ndarray], rng: np.random.RandomState
) -> np.ndarray:
    """(N,) several of ``voices`` at once, each from a place of its own and round again."""
    total = np.zeros(count)
    for index in rng.permutation(len(voices))[:BABBLERS]:
        voice = voices[index]
        start = rng.randint(len(voice))
        total += np.resize(np.roll(voice, -start), count) / rms(voice)
    return total


def mix(speech: np.ndarray, noise: np.ndarray, snr: float) -> np.ndarray:
    """Speech plus noise scaled to ``snr`` dB below it."""
    gain = rms(speech) / max(rms(noise), 1e-12) * 10.0 ** (-snr / 20.0)
    mixed: np.ndarray = speech + noise * gain
    return mixed


def reverberate(speech: np.ndarray, rate: int, rng: np.random.RandomState) -> np.ndarray:
    """Speech in a synthetic room: noise that decays exponentially, after the direct sound.

    The reverberation time (60 dB) is 0.15 to 0.5 s, the direct sound is 3 to 12 dB above
    the rest. The length stays as it is (Polack's statistical model of late reverberation).
    """
    seconds = rng.uniform(0.15, 0.5)
    time = np.arange(round(seconds * rate)) / rate
    tail = rng.standard_normal(len(time)) * 10.0 ** (-3.0 * time / seconds)
    tail[: round(0.002 * rate)] = 0.0  # the first reflection needs time to arrive
    tail *= 10.0 ** (-rng.uniform(3.0, 12.0) / 20.0) / np.linalg.norm(tail)
    tail[0] = 1.0
    return _convolve(speech, tail)[: len(speech)]


def scaled_to_peak(samples: np.ndarray, decibels: float) -> np.ndarray:
    """Samples with their peak at ``decibels`` below full scale, so that nothing clips."""
    gain = 10.0 ** (decibels / 20.0) / max(float(np.abs(samples).max()), 1e-12)
    scaled: np.ndarray = samples * gain
    return scaled


def rms(samples: np.ndarray) -> float:
    """Root of the mean power."""
    return float(np.sqrt(np.mean(np.square(samples))))


def _convolve(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    size = len(x) + len(kernel) - 1
    padded = 1 << (size - 1).bit_length()
    product = np.fft.rfft(x, padded) * np.fft.rfft(kernel, padded)
    return np.asarray(np.fft.irfft(product, padded)[:size])
