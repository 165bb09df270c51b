"""Samples → log-mel features.

Shapes: B batch, N samples, F feature frames, M mel bands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers.models.parakeet import ParakeetFeatureExtractor


def log_mel(
    extractor: ParakeetFeatureExtractor, audio_BN: Tensor, lengths_B: Tensor, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Features (B, F, M), normalised by utterance, and their mask (B, F), on ``device``.

    They are computed on the CPU, so that they do not depend on where a network runs.

    Args:
        extractor: which features.
        audio_BN: float32 samples at the extractor's rate, padded.
        lengths_B: samples of each utterance.
        device: where the features go.
    """
    samples = [row[:n].cpu() for row, n in zip(audio_BN, lengths_B.tolist(), strict=True)]
    out = extractor(samples, sampling_rate=extractor.sampling_rate, return_tensors="pt")
    return out["input_features"].to(device), out["attention_mask"].to(device)
