"""A stated simulation of what a trained teacher says of encoder frames.

Labels are drawn by Zipf's law and come one in about six frames; between them blank is all but
certain, and in the frame of a label that label is, with a strength that differs from label to
label, so that some frames are in doubt. Beside them every class has a logit of three parts: its
frequency (0.7 ln p), how alike it is to the label at hand (a correlation of random vectors of
24 numbers, times 0.65 · √24: confusions that repeat), and noise of the frame alone (deviation
1.2). Peaks are 11 + 0.75 ln(V/500) nats high, so that the entropy is about 0.12 nats a frame
for any vocabulary; with 500 classes, the eight likeliest kept and the rest spread evenly, the
divergence is about 8e-3 nats.

Shapes: T frames, V vocabulary (blank is class 0), D numbers of a label's vector.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

FRAMES = 375
_WIDTH = 24


def simulate(vocabulary: int, utterances: int, seed: int) -> list[np.ndarray]:
    """Log-probabilities float32 (375, V) of each utterance."""
    likeness = np.random.default_rng(7).normal(size=(vocabulary - 1, _WIDTH)) / np.sqrt(_WIDTH)
    rng = np.random.default_rng(seed)
    return [_utterance(rng, likeness) for _ in range(utterances)]


def load(path: Path) -> list[np.ndarray]:
    """Logits or log-probabilities (T, V), an array an utterance, from an npz file."""
    with np.load(path, allow_pickle=False) as arrays:
        return [log_softmax(arrays[name]) for name in arrays.files]


def log_softmax(logits_TV: np.ndarray) -> np.ndarray:
    """float32, computed in float64."""
    exact = logits_TV.astype(np.float64)
    exact -= exact.max(-1, keepdims=True)
    logp_TV: np.ndarray = exact - np.log(np.exp(exact).sum(-1, keepdims=True))
    return logp_TV.astype(np.float32)


def entropy(logp: list[np.ndarray]) -> float:
    """Mean over all frames, in nats."""
    rows = np.concatenate(logp).astype(np.float64)
    return float(-(np.exp(rows) * rows).sum(-1).mean())


def _utterance(rng: np.random.Generator, likeness: np.ndarray) -> np.ndarray:
    labels = len(likeness)
    peak = 11 + 0.75 * np.log((labels + 1) / 500)
    frequency = 1.0 / np.arange(2, labels + 2)
    frequency /= frequency.sum()
    spikes = 2 + np.cumsum(2 + rng.poisson(4, FRAMES))
    spikes = spikes[spikes < FRAMES]
    label = rng.choice(labels, len(spikes), p=frequency)
    strength = peak * (1 + 0.35 * rng.normal(size=len(spikes)))
    away_TL = np.abs(np.arange(FRAMES)[:, None] - spikes)
    nearest_T, away_T = away_TL.argmin(-1), away_TL.min(-1)
    alike_TV = (likeness @ likeness.T)[label[nearest_T]] * np.sqrt(_WIDTH)
    logits_TV = 0.7 * np.log(frequency) + 0.65 * alike_TV
    logits_TV += 1.2 * rng.normal(size=logits_TV.shape)
    logits_TV[np.arange(FRAMES), label[nearest_T]] += strength[nearest_T] * np.exp(
        -((away_T / 0.9) ** 2)
    )
    certain_T = peak + 2 * rng.normal(size=FRAMES)
    doubtful_T = -1 + 1.5 * rng.normal(size=FRAMES)
    blank_T = np.where(away_T == 0, doubtful_T, certain_T) + 0.7 * np.log(frequency[0])
    return log_softmax(np.concatenate([blank_T[:, None], logits_TV], axis=1))
