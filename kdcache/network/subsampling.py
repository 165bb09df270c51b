"""Convolutions that make few frames of many, for which padding is silence.

Shapes: B batch, F feature frames, M mel bands, C channels, T encoder frames, D hidden size.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

Length = TypeVar("Length", int, Tensor)


class Subsampling(nn.Module):
    """Convolutions over time and frequency, each of which halves both, and a projection.

    What lies beyond an utterance is zeroed before every convolution, as if the utterance ended
    there and the convolution padded it by itself: other utterances of a batch have no say.

    Args:
        bands: M.
        factor: feature frames of an encoder frame, a power of 2.
        channels: C.
        width: D.
    """

    def __init__(self, bands: int, factor: int, channels: int, width: int) -> None:
        super().__init__()
        halvings = factor.bit_length() - 1
        entries = [1, *[channels] * (halvings - 1)]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(entry, channels, kernel_size=3, stride=2, padding=1) for entry in entries
        )
        for _ in range(halvings):
            bands = halved(bands)
        self.out = nn.Linear(channels * bands, width)

    def forward(self, features_BFM: Tensor, frames_B: Tensor) -> tuple[Tensor, Tensor]:
        """Frames (B, T, D) and T of each utterance.

        Args:
            features_BFM: whatever in padding.
            frames_B: F of each utterance.
        """
        x_BCFM = without_padding(features_BFM, frames_B)[:, None]
        for convolution in self.convolutions:
            frames_B = halved(frames_B)
            x_BFCM = convolution(x_BCFM).relu().transpose(1, 2)
            x_BCFM = without_padding(x_BFCM, frames_B).transpose(1, 2)
        return self.out(x_BCFM.transpose(1, 2).flatten(2)), frames_B


def halved(length: Length) -> Length:
    """What a convolution of stride 2 makes of a length, the last odd one counted."""
    return (length + 1) // 2


def without_padding(x_BT: Tensor, frames_B: Tensor) -> Tensor:
    """A copy whose frames (the second axis) beyond each utterance's are zero."""
    beyond_BT = torch.arange(x_BT.shape[1], device=x_BT.device) >= frames_B[:, None]
    return x_BT.masked_fill(beyond_BT.view(*beyond_BT.shape, *[1] * (x_BT.ndim - 2)), 0.0)
