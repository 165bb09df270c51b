"""SpecAugment: masks over time and mel bands (Park et al. 2019, arXiv 1904.08779).

Masks are drawn from (seed, step, utterance id), not from a global generator, so that an
utterance is masked alike whichever worker trains on it. The time axis is kept: targets
cached for the clean utterance still fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import xxhash

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


@dataclass(frozen=True, slots=True)
class SpecAugment:
    """How much to mask.

    Attributes:
        time_masks: masks over time in each utterance.
        time_frames: greatest width of one, in feature frames.
        band_masks: masks over mel bands.
        bands: greatest width of one, in bands.
        seed: what the draw depends on beside the utterance's id.
        step: the optimiser step, so that each epoch masks anew.
    """

    time_masks: int = 2
    time_frames: int = 20
    band_masks: int = 2
    bands: int = 15
    seed: int = 0
    step: int = 0


def mask_features(
    features_BFM: Tensor, mask_BF: Tensor, ids: Sequence[str], augment: SpecAugment
) -> Tensor:
    """A masked copy of normalised features (B, F, M); masked cells are 0, their mean."""
    masked = features_BFM.clone()
    lengths = mask_BF.sum(-1).tolist()
    for row, (utterance, frames) in enumerate(zip(ids, lengths, strict=True)):
        random = np.random.RandomState(_seed(utterance, augment))
        for start, stop in _spans(random, frames, augment.time_masks, augment.time_frames):
            masked[row, start:stop] = 0.0
        for start, stop in _spans(random, features_BFM.shape[2], augment.band_masks, augment.bands):
            masked[row, :, start:stop] = 0.0
    return masked


def _seed(utterance: str, augment: SpecAugment) -> int:
    key = f"{augment.seed}\x1f{augment.step}\x1f{utterance}"
    return xxhash.xxh32_intdigest(key.encode())


def _spans(
    random: np.random.RandomState, length: int, count: int, widest: int
) -> list[tuple[int, int]]:
    """``count`` spans of at most ``widest`` cells, and never over a third of the axis."""
    spans = []
    for _ in range(count):
        width = int(random.randint(0, min(widest, length // 3) + 1))
        start = int(random.randint(0, max(length - width, 0) + 1))
        spans.append((start, start + width))
    return spans
