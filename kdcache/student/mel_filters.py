"""A first convolution over samples that begins as band-pass filters along the mel scale.

Each filter is a windowed wave (Zeghidour et al. 2018, "Learning filterbanks from raw speech", start
theirs so), in four phases a quarter apart, because what comes after keeps one sign of it only. They
are learnt on from there.

Shapes: C channels, K samples of the kernel.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

LOWEST, HIGHEST = 60.0, 7000.0
"""Hz of the first and the last filter's middle."""

PHASES = 4
"""Channels of each filter; what is left over stays random."""

GAIN = math.sqrt(2.0)
"""Norm of a filter, that of the convolutions' own first weights."""


def set_mel_filters(conv: nn.Conv1d, sample_rate: int) -> None:
    """Give a convolution of one input channel its first weights; its biases become 0.

    Args:
        conv: of C channels.
        sample_rate: Hz of what it hears.
    """
    weights_CK = mel_filters(conv.out_channels, conv.kernel_size[0], sample_rate)
    with torch.no_grad():
        conv.weight[: len(weights_CK), 0] = GAIN * weights_CK.to(conv.weight)
        if conv.bias is not None:
            conv.bias.zero_()


def mel_filters(channels: int, kernel: int, sample_rate: int) -> Tensor:
    """Filters of norm 1, in as many whole sets of phases as fit: float64 (C, K)."""
    places = torch.linspace(_mel(LOWEST), _mel(HIGHEST), channels // PHASES, dtype=torch.float64)
    hertz_C = 700.0 * (10.0 ** (places / 2595.0) - 1.0)
    seconds_K = (torch.arange(kernel, dtype=torch.float64) - (kernel - 1) / 2) / sample_rate
    window_K = torch.hann_window(kernel + 2, periodic=False, dtype=torch.float64)[1:-1]
    waves_CK = 2 * math.pi * hertz_C[:, None] * seconds_K
    turned = [torch.cos(waves_CK + phase * 2 * math.pi / PHASES) for phase in range(PHASES)]
    filters_CK = window_K * torch.cat(turned)
    norms_C1: Tensor = filters_CK.norm(dim=1, keepdim=True)
    return filters_CK / norms_C1.clamp(min=1e-9)


def _mel(hertz: float) -> float:
    return 2595.0 * math.log10(1.0 + hertz / 700.0)
