"""Spectrograms of sounds whose spectrum is known."""

from __future__ import annotations

import numpy as np
import pytest

from kdcache.inspect.spectrogram import RANGE, spectrogram

RATE = 16_000


@pytest.mark.parametrize("frequency", [440, 1000, 7000])
def test_a_tone_is_where_it_is(frequency: int) -> None:
    samples_N = np.sin(2 * np.pi * frequency * np.arange(RATE) / RATE)
    image_MF = spectrogram(samples_N, RATE)
    assert image_MF.shape == (100, 201)
    hertz = np.linspace(0, RATE / 2, 201)[image_MF[10:90].argmax(axis=1)]
    assert np.abs(hertz - frequency).max() <= 40
    assert image_MF.max() == 0.0
    assert image_MF.min() == pytest.approx(-RANGE)


def test_a_click_is_when_it_is() -> None:
    samples_N = np.zeros(RATE)
    samples_N[RATE // 2] = 1.0
    power_M = spectrogram(samples_N, RATE).mean(axis=1)
    assert power_M.argmax() == 50
    assert power_M[40] == pytest.approx(-RANGE)


@pytest.mark.parametrize("count", [0, 1, 100])
def test_silence_and_next_to_nothing(count: int) -> None:
    image_MF = spectrogram(np.zeros(count), RATE)
    assert image_MF.shape == (1, 201)
    assert (image_MF == -RANGE).all()
