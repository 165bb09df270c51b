"""Samples → log-mel features, on whichever device the samples are.

The features are those of ``transformers.ParakeetFeatureExtractor``, whose settings and mel
filters are used: pre-emphasis, a Hann window, power, log, mean and variance of each utterance
set to 0 and 1. The extractor itself wants its samples on the CPU, one tensor for each
utterance (``tests/benchmarks/bench_features.py`` tells how fast either is).

Shapes: B batch, N samples, F feature frames, W frequencies, M mel bands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers.models.parakeet import ParakeetFeatureExtractor

LOG_GUARD = 2.0**-24
"""Added to a band's power, so that silence has a logarithm; the extractor's."""

STD_GUARD = 1e-5
"""Added to a band's deviation, so that one that never changes has a quotient; the extractor's."""


def log_mel(
    extractor: ParakeetFeatureExtractor, audio_BN: Tensor, lengths_B: Tensor
) -> tuple[Tensor, Tensor]:
    """Features (B, F, M) in float32, normalised by utterance, and their mask (B, F), bool.

    An utterance of n samples has n // hop frames; what lies beyond is zero, and what the
    samples beyond n are does not matter. One frame alone has no variance: it becomes 0.

    Args:
        extractor: its settings say which features.
        audio_BN: float32 samples at the extractor's rate, padded.
        lengths_B: samples of each utterance.
    """
    device = audio_BN.device
    lengths_B = lengths_B.to(device)
    power_BFW = _power(extractor, _emphasised(extractor, audio_BN.float(), lengths_B))
    mel_BFM = (power_BFW @ extractor.mel_filters.to(device).T).add_(LOG_GUARD).log_()
    frames_B = lengths_B // extractor.hop_length
    mask_BF = torch.arange(mel_BFM.shape[1], device=device) < frames_B[:, None]
    return _normalised(mel_BFM, mask_BF, frames_B), mask_BF


def _emphasised(extractor: ParakeetFeatureExtractor, audio_BN: Tensor, lengths_B: Tensor) -> Tensor:
    """Samples less a share of the one before, and zeros beyond an utterance's own."""
    if extractor.preemphasis is not None:
        before_BN = audio_BN[:, :-1]
        audio_BN = torch.cat(
            [audio_BN[:, :1], audio_BN[:, 1:] - extractor.preemphasis * before_BN], dim=1
        )
    places_N = torch.arange(audio_BN.shape[1], device=audio_BN.device)
    return audio_BN.masked_fill(places_N >= lengths_B[:, None], 0.0)


def _power(extractor: ParakeetFeatureExtractor, audio_BN: Tensor) -> Tensor:
    """Squared magnitudes (B, F, W) of a frame every hop, the first around sample 0."""
    window = torch.hann_window(extractor.win_length, periodic=False, device=audio_BN.device)
    spectrum_BWF = torch.stft(
        audio_BN,
        extractor.n_fft,
        hop_length=extractor.hop_length,
        win_length=extractor.win_length,
        window=window,
        pad_mode="constant",
        return_complex=True,
    )
    spectrum_BFW = spectrum_BWF.transpose(1, 2)
    return spectrum_BFW.real.square().add_(spectrum_BFW.imag.square())


def _normalised(mel_BFM: Tensor, mask_BF: Tensor, frames_B: Tensor) -> Tensor:
    """Each band of each utterance with mean 0 and variance 1 over its own frames."""
    mask_BF1, count_B11 = mask_BF[:, :, None], frames_B[:, None, None]
    mean_B1M = (mel_BFM * mask_BF1).sum(dim=1, keepdim=True) / count_B11.clamp(min=1)
    around_BFM = (mel_BFM - mean_B1M) * mask_BF1
    squares_B1M = around_BFM.square().sum(dim=1, keepdim=True)
    deviation_B1M = (squares_B1M / (count_B11 - 1).clamp(min=1)).sqrt()
    return around_BFM / (deviation_B1M + STD_GUARD)
