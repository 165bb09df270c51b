"""CTC teachers over raw samples: ``Wav2Vec2ForCTC`` and its kin.

Padding reaches real frames in some of these networks: a group norm after the first
convolution averages over all of time, and the Conformer's and data2vec's convolutions read
across an utterance's end. Those run in groups of equal length, where there is no padding, so
that an utterance's numbers do not depend on its batch. The others are padded and masked.

Shapes: B batch, N samples, T encoder frames, D hidden size, V vocabulary with blank.
"""

from __future__ import annotations

from contextlib import contextmanager
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from transformers import Wav2Vec2FeatureExtractor

from kdcache.teacher.base import TransformersTeacher
from kdcache.teacher.protocol import TeacherOutput
from kdcache.types import TeacherKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import numpy as np
    from torch import Tensor
    from torch.nn import Module

MASKED = frozenset({"hubert", "unispeech", "unispeech-sat", "wav2vec2", "wavlm"})
"""Model types whose masks shield every layer after the feature encoder."""


class WaveformCTCTeacher(TransformersTeacher):
    """A model with wav2vec 2.0's interface and a CTC head as a teacher."""

    kind = TeacherKind.CTC
    version = "1"

    kept_layers: tuple[int, ...] = ()
    """Transformer layers, from 1, whose states each output is to have."""

    def extractor_class(self) -> Any:
        """Raw samples, normalised by utterance where the model wants it."""
        return Wav2Vec2FeatureExtractor

    @property
    def blank_id(self) -> int:
        """Class id of blank: the padding token."""
        return self.configured_class("pad_token_id")

    @property
    def frame_shift(self) -> float:
        """Product of the strides, in seconds."""
        config = self.model.config
        stride = prod(config.conv_stride)
        if getattr(config, "add_adapter", False):
            stride *= config.adapter_stride**config.num_adapter_layers
        return float(stride / self.extractor.sampling_rate)

    @property
    def hidden_size(self) -> int:
        """Width of the last hidden states."""
        config = self.model.config
        adapted = getattr(config, "add_adapter", False)
        return int(config.output_hidden_size if adapted else config.hidden_size)

    @property
    def targets(self) -> tuple[str, ...]:
        """Frame posteriors and the encoder; its input is the samples, not features."""
        return ("encoder_logits", "hidden")

    @property
    def layers(self) -> Iterable[Module]:
        """Transformer or Conformer blocks above the feature encoder."""
        blocks: Iterable[Module] = self.model.base_model.encoder.layers
        return blocks

    @property
    def shortest_audio(self) -> int:
        """Receptive field of one frame, in samples."""
        samples = 1
        config = self.model.config
        layers = zip(config.conv_kernel, config.conv_stride, strict=True)
        for kernel, stride in reversed(list(layers)):
            samples = (samples - 1) * stride + kernel
        return int(samples)

    @property
    def masks_padding(self) -> bool:
        """Whether padded batches give the numbers of utterances alone."""
        config = self.model.config
        return (
            config.model_type in MASKED
            and config.feat_extract_norm == "layer"
            and not getattr(config, "add_adapter", False)
            and not getattr(config, "conv_pos_batch_norm", False)
        )

    def _forward(
        self, audio: list[np.ndarray], tokens: list[tuple[int, ...]]
    ) -> list[TeacherOutput]:
        outputs: dict[int, TeacherOutput] = {}
        for rows in self._groups(audio):
            with self._keeping() as kept:
                hidden_BTD, frames_B = self._encode([audio[row] for row in rows])
            logits_BTV = self.model.lm_head(hidden_BTD)
            for position, (row, frames) in enumerate(zip(rows, frames_B, strict=True)):
                outputs[row] = TeacherOutput(
                    frames=frames,
                    tokens=tokens[row],
                    hidden_TD=hidden_BTD[position, :frames],
                    frame_logits_TV=logits_BTV[position, :frames],
                    layers={n: kept_BTD[position, :frames] for n, kept_BTD in kept.items()},
                )
        return [outputs[row] for row in range(len(audio))]

    @contextmanager
    def _keeping(self) -> Iterator[dict[int, Tensor]]:
        """What the layers that are to be kept give out, while the model runs."""
        kept: dict[int, Tensor] = {}
        layers = self.model.base_model.encoder.layers
        hooks = [
            layers[n - 1].register_forward_hook(_note(kept, n))
            for n in self.kept_layers
            if n <= len(layers)
        ]
        try:
            yield kept
        finally:
            for hook in hooks:
                hook.remove()

    def _groups(self, audio: list[np.ndarray]) -> list[list[int]]:
        """Rows that may share a padded batch."""
        if self.masks_padding:
            return [list(range(len(audio)))]
        groups: dict[int, list[int]] = {}
        for row, samples in enumerate(audio):
            groups.setdefault(len(samples), []).append(row)
        return list(groups.values())

    def _encode(self, audio: list[np.ndarray]) -> tuple[Tensor, list[int]]:
        inputs = self.extractor(
            audio,
            sampling_rate=self.extractor.sampling_rate,
            padding="longest",
            return_attention_mask=True,
            return_tensors="pt",
        )
        mask_BN = inputs["attention_mask"].to(self.device) if self.masks_padding else None
        values_BN = inputs["input_values"].to(self.device, self.dtype)
        hidden_BTD: Tensor = self.model.base_model(
            values_BN, attention_mask=mask_BN
        ).last_hidden_state
        lengths_B = torch.tensor([len(samples) for samples in audio])
        return hidden_BTD, self._frames(lengths_B).tolist()

    def _frames(self, lengths_B: Tensor) -> Tensor:
        """Encoder frames of so many samples, by the library's own formula."""
        frames_B: Tensor = self.model._get_feat_extract_output_lengths(lengths_B)
        return frames_B.long()


def _note(kept: dict[int, Tensor], number: int) -> Callable[[Any, Any, Any], None]:
    """A hook that keeps what a layer gives out, which in some models is the first of several."""

    def hook(_layer: Any, _given: Any, out: Any) -> None:
        kept[number] = out[0] if isinstance(out, tuple) else out

    return hook
