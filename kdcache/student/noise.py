"""Noise on what a student hears, while its teacher heard none.

Like SpecAugment it keeps the time axis, so that targets cached for the clean utterance still fit;
a change of speed would not (see ``kdcache.corpus.views``). Noise is drawn from (seed, step,
utterance id): an utterance sounds alike whichever worker trains on it, in whichever batch.

Shapes: B batch, N audio samples.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
import xxhash

from kdcache.corpus.synth.acoustics import mix, pink_noise, rms, white_noise

if TYPE_CHECKING:
    from kdcache.batch import Batch


@dataclass(frozen=True, slots=True)
class NoiseAugment:
    """How much noise to add.

    Attributes:
        snr: lowest and highest signal-to-noise ratio in dB, by mean power over the utterance;
            each utterance has one drawn evenly between them.
        share: of utterances that get any.
        seed: what the draw depends on beside the utterance's id.
        step: the optimiser step, so that each epoch sounds anew.
    """

    snr: tuple[float, float] = (5.0, 30.0)
    share: float = 0.8
    seed: int = 0
    step: int = 0


def add_noise(batch: Batch, noise: NoiseAugment) -> Batch:
    """The same utterances in noise, white or pink at even odds; padding and silence stay.

    Args:
        batch: with audio, or it is given back as it is; not changed in place.
        noise: how much.
    """
    if batch.audio_BN is None or batch.audio_lengths_B is None:
        return batch
    noisy_BN = batch.audio_BN.clone()
    for row, (utterance, length) in enumerate(
        zip(batch.ids, batch.audio_lengths_B.tolist(), strict=True)
    ):
        samples = noisy_BN[row, :length].cpu().numpy()
        mixed = torch.from_numpy(_in_noise(samples, utterance, noise))
        noisy_BN[row, :length] = mixed.to(noisy_BN.device)
    return replace(batch, audio_BN=noisy_BN)


def _in_noise(samples: np.ndarray, utterance: str, noise: NoiseAugment) -> np.ndarray:
    key = f"{noise.seed}\x1f{noise.step}\x1f{utterance}\x1fnoise"
    random = np.random.RandomState(xxhash.xxh32_intdigest(key.encode()))
    spared, snr = random.uniform() >= noise.share, random.uniform(*noise.snr)
    make = pink_noise if random.uniform() < 0.5 else white_noise
    if spared or len(samples) < 2 or rms(samples) == 0.0:
        return samples
    return mix(samples.astype(np.float64), make(len(samples), random), snr).astype(np.float32)
