"""An encoder whose attention has a memory of its neighbourhood, and an attention decoder on it.

A layer of SAN-M ("memory equipped self-attention", Gao et al. 2020, arXiv 2006.01713) adds to what
self-attention finds a weighted sum of the values v nearby, channel by channel:

    y_t = attention_t + v_t + Σ_{|i| ≤ n} a_i ⊙ v_{t+i}

(the memory of a feed-forward sequential memory network, Zhang et al. 2018, arXiv 1803.05030,
equation 9, looking both ways). Values beyond an utterance are zero. Layers are normalised before
each sublayer; their weights may be shared (``kdcache.network.sharing``).

Shapes: B batch, F feature frames, M mel bands, T encoder frames, D hidden size, U labels, V
vocabulary with blank.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

from kdcache.network.attention import Attention
from kdcache.network.attention_decoder import AttentionDecoder
from kdcache.network.sharing import weights_of_layers
from kdcache.network.sines import sines
from kdcache.network.subsampling import Subsampling, without_padding

if TYPE_CHECKING:
    from torch import Tensor

    from kdcache.network.san_m_settings import SanMSettings

BANDS = 80
"""Mel bands that it hears."""


class SanM(nn.Module):
    """Encoder and decoder with random weights.

    Args:
        classes: V; the last is where the decoder starts and ends, and a CTC head's blank.
        settings: how large.
    """

    def __init__(self, classes: int, settings: SanMSettings) -> None:
        super().__init__()
        self.classes, self.settings = classes, settings
        self.encoder = SanMEncoder(settings)
        self.decoder = AttentionDecoder(
            classes, settings.hidden, settings.decoder, share=settings.share.decoder
        )

    def encode(self, features_BFM: Tensor, mask_BF: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states (B, T, D), and T of each utterance.

        Args:
            features_BFM: whatever in padding.
            mask_BF: which feature frames are real.
        """
        hidden_BTD, frames_B = self.encoder(features_BFM, mask_BF.sum(-1).long())
        return hidden_BTD[:, : int(frames_B.max())], frames_B


class SanMEncoder(nn.Module):
    """Subsampling and layers."""

    def __init__(self, settings: SanMSettings) -> None:
        super().__init__()
        self.order = weights_of_layers(settings.layers, settings.share.encoder)
        self.subsampling = Subsampling(
            BANDS, settings.subsampling, settings.subsampling_channels, settings.hidden
        )
        self.dropout = nn.Dropout(settings.dropout)
        self.layers = nn.ModuleList(SanMLayer(settings) for _ in set(self.order))
        self.norm = nn.LayerNorm(settings.hidden)

    def forward(self, features_BFM: Tensor, frames_B: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states (B, T, D), and T of each utterance, from F of each."""
        x_BTD, frames_B = self.subsampling(features_BFM, frames_B)
        places_T = torch.arange(x_BTD.shape[1], device=x_BTD.device)
        width = x_BTD.shape[2]
        # Of about the size that sines have, or what is heard would be lost among places.
        x_BTD = x_BTD * math.sqrt(width) + sines(places_T, width).to(x_BTD.dtype)
        x_BTD = self.dropout(x_BTD)
        for index in self.order:
            x_BTD = self.layers[index](x_BTD, frames_B)
        return self.norm(x_BTD), frames_B


class SanMLayer(nn.Module):
    """Self-attention with a memory, then feed-forward."""

    def __init__(self, settings: SanMSettings) -> None:
        super().__init__()
        width, wide = settings.hidden, settings.hidden * settings.feed_forward
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, width, settings.heads)
        self.memory = Memory(width, settings.memory_kernel)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, wide),
            nn.ReLU(),
            nn.Dropout(settings.dropout),
            nn.Linear(wide, width),
        )
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, x_BTD: Tensor, frames_B: Tensor) -> Tensor:
        """The states one layer higher."""
        normed_BTD = self.attention_norm(x_BTD)
        keys, values_BHTE = self.attention.keys_values(normed_BTD)
        seen_BT = torch.arange(x_BTD.shape[1], device=x_BTD.device) < frames_B[:, None]
        found_BTD = self.attention(normed_BTD, (keys, values_BHTE), seen_BT[:, None, None])
        kept_BTD = self.memory(values_BHTE.transpose(1, 2).flatten(2), frames_B)
        x_BTD = x_BTD + self.dropout(found_BTD + kept_BTD)
        higher_BTD: Tensor = x_BTD + self.dropout(self.feed_forward(x_BTD))
        return higher_BTD


class Memory(nn.Module):
    """Of each channel by itself, a frame and a weighted sum of those around it.

    Args:
        width: D.
        kernel: 2n + 1 frames.
    """

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.taps = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width, bias=False)

    def forward(self, values_BTD: Tensor, frames_B: Tensor) -> Tensor:
        """What is kept of the values, (B, T, D)."""
        heard_BTD = without_padding(values_BTD, frames_B)
        around_BTD: Tensor = self.taps(heard_BTD.transpose(1, 2)).transpose(1, 2)
        return heard_BTD + around_BTD
