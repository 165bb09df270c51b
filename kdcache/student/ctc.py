"""A CTC student over raw samples, in wav2vec 2.0's form, which hears whole or streams.

One that hears whole is a directory that ``transformers``' Wav2Vec2ForCTC loads, and so a teacher
for a student after it. Samples are not normalised by utterance, which would need all of it.

Shapes: B batch, N samples, T frames, C convolution channels, D width, V vocabulary with blank (the
last class).
"""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

from kdcache.student import ctc_network as network
from kdcache.student.augment import mask_features
from kdcache.student.base import Student, audio_of
from kdcache.student.ctc_files import read_ctc, write_ctc
from kdcache.student.ctc_settings import SAMPLE_RATE, CTCStudentSettings, HiddenLayer
from kdcache.student.mel_filters import set_mel_filters
from kdcache.student.output import StudentOutput

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from kdcache.batch import Batch
    from kdcache.corpus.tokenizer import Tokenizer
    from kdcache.student.augment import SpecAugment
    from kdcache.student.ctc_settings import StreamingSettings

_FEATURES = (0.01, 80)
"""Seconds of a frame and channels, in which SpecAugment's masks are counted."""


class CTCStudent(Student):
    """Convolutions over samples, a transformer, and a CTC projection.

    Args:
        model: the weights; blank is ``config.pad_token_id``.
        tokenizer: the tokenizer whose ids its classes are.
        streaming: how it streams; ``None`` where it hears an utterance whole.
        hidden_layers: which of its layers learn which of the teacher's, by the target's name.
    """

    kind: ClassVar[str] = "ctc"

    def __init__(
        self,
        model: Wav2Vec2ForCTC,
        tokenizer: Tokenizer,
        streaming: StreamingSettings | None = None,
        hidden_layers: Mapping[str, HiddenLayer] | None = None,
    ) -> None:
        super().__init__()
        self.model, self.tokenizer, self.streaming = model, tokenizer, streaming
        self.extractor = Wav2Vec2FeatureExtractor(
            sampling_rate=SAMPLE_RATE, do_normalize=False, return_attention_mask=True
        )
        self.hidden_layers = dict(hidden_layers or {})
        width = model.config.hidden_size
        self.hidden_heads = nn.ModuleDict(
            {name: nn.Linear(width, entry.width) for name, entry in self.hidden_layers.items()}
        )

    @property
    def blank(self) -> int:
        """Class id of blank."""
        return int(self.model.config.pad_token_id)

    @property
    def network(self) -> nn.Module:
        """What decodes; the projections that only training uses are left out."""
        whole: nn.Module = self.model
        return whole

    @property
    def frame_shift(self) -> float:
        """Seconds between two frames."""
        return float(prod(self.model.config.conv_stride) / SAMPLE_RATE)

    def forward(
        self,
        batch: Batch,
        augment: SpecAugment | None = None,
        precision: torch.dtype = torch.float32,
    ) -> StudentOutput:
        """CTC logits, and the layers that learn from the teacher's; no labels are read.

        Args:
            batch: with audio.
            augment: masks what the convolutions give, by utterance id: frames, and channels as if
                they were mel bands.
            precision: of the network's products.

        Raises:
            ConfigError: the batch has no audio.
        """
        audio_BN, lengths_B = audio_of(batch)
        kind = self.device.type
        with torch.autocast(kind, torch.bfloat16, enabled=precision == torch.bfloat16):
            features_BTC, frames_B = self.features(audio_BN, lengths_B)
            if augment is not None:
                features_BTC = self._masked(features_BTC, frames_B, batch.ids, augment)
            output, layers = self._encoded(features_BTC, frames_B)
            vectors = {
                name: self.hidden_heads[name](layers[entry.layer - 1]).float()
                for name, entry in self.hidden_layers.items()
            }
        return replace(output, layer_vectors=vectors)

    def hear(self, audio_BN: Tensor, lengths_B: Tensor) -> StudentOutput:
        """CTC logits of samples."""
        return self._encoded(*self.features(audio_BN, lengths_B))[0]

    def features(self, audio_BN: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """What the convolutions give (B, T, C), and frames (B,), on the model's device."""
        short = network.receptive_field(self.model.config) - audio_BN.shape[1]
        audio_BN = nn.functional.pad(audio_BN.to(self.device), (0, max(short, 0)))
        frames_B = network.frames_of(self.model, lengths_B.to(self.device))
        return network.convolve(self.model, audio_BN), frames_B

    def _masked(
        self, features_BTC: Tensor, frames_B: Tensor, ids: tuple[str, ...], augment: SpecAugment
    ) -> Tensor:
        """Masks as wide in seconds, and in shares of the channels, as on mel features."""
        seconds, bands = _FEATURES
        scaled = replace(
            augment,
            time_frames=round(augment.time_frames * seconds / self.frame_shift),
            bands=round(augment.bands * features_BTC.shape[2] / bands),
        )
        t_T = torch.arange(features_BTC.shape[1], device=frames_B.device)
        return mask_features(features_BTC, t_T < frames_B[:, None], ids, scaled)

    def _encoded(
        self, features_BTC: Tensor, frames_B: Tensor
    ) -> tuple[StudentOutput, list[Tensor]]:
        hidden_BTD, layers = network.encode(self.model, features_BTC, frames_B, self.streaming)
        output = StudentOutput(
            encoder_BTJ=None,
            decoder_BUJ=None,
            joint=None,
            frames_B=frames_B,
            hidden_BTD=hidden_BTD,
            ctc_logits_BTV=network.logits_of(self.model, hidden_BTD).float(),
        )
        return output, layers

    def begin(self, settings: Any) -> CTCStudent:
        """The same weights, streaming as ``settings`` say; projections that it lacks are new.

        Settings of sizes are not looked at: they are the student's own.
        """
        if not isinstance(settings, CTCStudentSettings):
            return self
        model = network_of(self.model, settings.streaming)
        student = CTCStudent(model, self.tokenizer, settings.streaming, settings.hidden_layers)
        for name, head in self.hidden_heads.items():
            if settings.hidden_layers.get(name) == self.hidden_layers[name]:
                student.hidden_heads[name] = head
        return student

    def save(self, directory: Path) -> None:
        """See ``kdcache.student.ctc_files``."""
        write_ctc(self, directory)

    @classmethod
    def load(cls, directory: Path) -> CTCStudent:
        """See ``kdcache.student.ctc_files``."""
        parts = read_ctc(directory)
        student = cls(parts.model, parts.tokenizer, parts.streaming, parts.hidden_layers)
        student.hidden_heads.load_state_dict(parts.heads)
        return student

    @classmethod
    def build(cls, settings: CTCStudentSettings, tokenizer: Tokenizer) -> CTCStudent:
        """See :func:`kdcache.student.build_student`."""
        model = Wav2Vec2ForCTC(_network_config(settings, tokenizer.vocab_size))
        _scale_by_fan_in(model)
        if settings.first_filters == "mel":
            set_mel_filters(model.wav2vec2.feature_extractor.conv_layers[0].conv, SAMPLE_RATE)
        model = network_of(model, settings.streaming)
        return cls(model, tokenizer, settings.streaming, settings.hidden_layers)


def network_of(model: Wav2Vec2ForCTC, streaming: StreamingSettings | None) -> Wav2Vec2ForCTC:
    """The same weights under the name of what streams so, or of what hears whole."""
    own = {**model.config.to_dict(), "architectures": None}
    for name in ("model_type", "chunk", "history", "transformers_version"):
        own.pop(name, None)
    if streaming is None:
        made = Wav2Vec2ForCTC(Wav2Vec2Config(**own))
    else:
        config = network.StreamingWav2Vec2Config(**own, **streaming.model_dump())
        made = network.StreamingWav2Vec2ForCTC(config)
    made.load_state_dict(model.state_dict())
    return made.train(model.training)


def _scale_by_fan_in(model: nn.Module) -> None:
    """Draw linear layers anew by their own rule, as ``kdcache.student.transducer`` does and why."""
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            layer.reset_parameters()


def _network_config(settings: CTCStudentSettings, tokens: int) -> Wav2Vec2Config:
    dropouts: dict[str, Any] = dict.fromkeys(
        ("hidden_dropout", "activation_dropout", "attention_dropout", "final_dropout"),
        settings.dropout,
    )
    return Wav2Vec2Config(
        vocab_size=tokens + 1,
        pad_token_id=tokens,
        bos_token_id=None,
        eos_token_id=None,
        hidden_size=settings.hidden,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        intermediate_size=settings.hidden * settings.feed_forward,
        conv_dim=(settings.conv_channels,) * len(settings.conv_kernels),
        conv_kernel=settings.conv_kernels,
        conv_stride=settings.conv_strides,
        conv_bias=True,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        num_conv_pos_embeddings=settings.position_kernel,
        num_conv_pos_embedding_groups=settings.position_groups,
        feat_proj_dropout=0.0,
        layerdrop=0.0,
        apply_spec_augment=False,
        **dropouts,
    )
