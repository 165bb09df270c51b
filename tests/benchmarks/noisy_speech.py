"""Recordings in pink noise, so that a teacher that knows them by heart must listen."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from kdcache.corpus import encode_flac, load_audio
from kdcache.corpus.audio import to_int16
from kdcache.corpus.synth.acoustics import mix, pink_noise
from kdcache.types import AudioRef

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from kdcache.types import Utterance

RATE = 16_000


def in_noise(utterances: Sequence[Utterance], snr: float, folder: Path) -> list[Utterance]:
    """The same, as FLAC files in ``folder``.

    Args:
        utterances: with audio of any rate.
        snr: signal-to-noise ratio in dB, by mean power over each utterance.
        folder: is made.
    """
    folder.mkdir(parents=True)
    random = np.random.RandomState(0)
    noisy = []
    for utterance in utterances:
        samples = load_audio(utterance.audio, RATE)
        mixed = mix(samples, pink_noise(len(samples), random), snr)
        # Softly enough that no sum is beyond what 16 bits hold; features are normalised anyway.
        mixed *= 0.9 / max(0.9, float(np.abs(mixed).max()))
        path = folder / f"{utterance.id}.flac"
        path.write_bytes(encode_flac(to_int16(mixed), RATE))
        noisy.append(replace(utterance, audio=AudioRef(str(path))))
    return noisy
