"""What Parakeet teachers share: log-mel features and the FastConformer encoder's geometry.

Features are computed where the encoder runs, so that a GPU does not wait for one core of the CPU.

Shapes: B batch, F feature frames, M mel bands, T encoder frames.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers.models.parakeet import ParakeetFeatureExtractor

from kdcache.network.log_mel import log_mel
from kdcache.teacher.base import TransformersTeacher

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from torch import Tensor
    from torch.nn import Module


class ParakeetTeacher(TransformersTeacher):
    """A teacher with a Parakeet encoder."""

    def extractor_class(self) -> Any:
        """Log-mel features, normalised by utterance."""
        return ParakeetFeatureExtractor

    @property
    def frame_shift(self) -> float:
        """Hop of the features times the encoder's subsampling, in seconds."""
        config = self.model.config.encoder_config
        layers = int(math.log2(config.subsampling_factor))
        hop: int = self.extractor.hop_length
        return float(hop * config.subsampling_conv_stride**layers / self.extractor.sampling_rate)

    @property
    def hidden_size(self) -> int:
        """Width of the encoder's output."""
        return int(self.model.config.encoder_config.hidden_size)

    @property
    def layers(self) -> Iterable[Module]:
        """Conformer blocks of the encoder."""
        blocks: Iterable[Module] = self.model.encoder.layers
        return blocks

    @property
    def shortest_audio(self) -> int:
        """Two feature frames: one alone has no variance to be normalised by."""
        return 2 * int(self.extractor.hop_length)

    def features(self, audio: list[np.ndarray]) -> tuple[Tensor, Tensor]:
        """Features (B, F, M) in float32 and their mask (B, F), on the teacher's device."""
        samples = [torch.from_numpy(row) for row in audio]
        audio_BN = pad_sequence(samples, batch_first=True).to(self.device)
        return log_mel(self.extractor, audio_BN, torch.tensor([len(row) for row in audio]))
