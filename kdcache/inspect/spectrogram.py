"""Power of audio over time and frequency: numpy alone.

Shapes: N samples, M windows, F frequencies.
"""

from __future__ import annotations

import numpy as np

WINDOW, HOP = 0.025, 0.010
"""Seconds of a window, and between two."""

RANGE = 70.0
"""Decibels below the loudest that are told apart."""


def spectrogram(samples_N: np.ndarray, rate: int) -> np.ndarray:
    """Power in decibels below the loudest: float64 (M, F), −``RANGE`` to 0.

    Windows are Hann's; the first is centred on the first sample. Frequencies go evenly from 0 to
    rate ÷ 2. Silence is −``RANGE`` everywhere.
    """
    width, hop = max(round(WINDOW * rate), 2), max(round(HOP * rate), 1)
    padded_N = np.pad(samples_N.astype(np.float64), (width // 2, width))
    starts_M = np.arange(0, max(len(samples_N), 1), hop)
    frames_MW = np.lib.stride_tricks.sliding_window_view(padded_N, width)[starts_M]
    power_MF = np.abs(np.fft.rfft(frames_MW * np.hanning(width), axis=1)) ** 2
    loudest = power_MF.max()
    if loudest == 0.0:
        return np.full(power_MF.shape, -RANGE)
    floor = loudest * 10 ** (-RANGE / 10)
    decibels_MF: np.ndarray = 10 * np.log10(power_MF.clip(min=floor) / loudest)
    return decibels_MF
