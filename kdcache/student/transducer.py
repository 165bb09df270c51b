"""A transducer student: features, FastConformer encoder, LSTM prediction network, joint.

The network is ``transformers``' ParakeetForRNNT, so that a trained student is a directory
that ``from_pretrained`` loads and that can be a teacher itself (self-distillation chains).

Shapes: B batch, N samples, F feature frames, M mel bands, T encoder frames, U labels,
S columns of a frame's window, V vocabulary with blank (the last class), J joint width, D hidden
size, Q codebooks, E entries of one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import ParakeetEncoderConfig, ParakeetForRNNT, ParakeetRNNTConfig
from transformers.models.parakeet import ParakeetFeatureExtractor

from kdcache.codec.codebooks import ENTRIES
from kdcache.errors import ConfigError
from kdcache.lattice import FactoredLogits
from kdcache.lattice.banded import band_columns
from kdcache.student.augment import mask_features

if TYPE_CHECKING:
    from collections.abc import Callable

    from kdcache.batch import Batch
    from kdcache.corpus.tokenizer import Tokenizer
    from kdcache.student.augment import SpecAugment
    from kdcache.student.settings import StudentSettings


@dataclass(frozen=True, slots=True)
class StudentOutput:
    """What one forward pass gives; the lattice is not multiplied out before it is asked for.

    Attributes:
        encoder_BTJ: projected encoder frames.
        decoder_BUJ: states of the prediction network, (B, U+1, J).
        joint: maps states and frames, broadcast against each other, to logits.
        frames_B: T of each utterance.
        hidden_BTD: last hidden states of the encoder.
        ctc_logits_BTV: logits of the auxiliary CTC head, where there is one.
        vectors_BTD: the encoder's states projected to the teacher's width, where that is asked
            for.
        codes_BTQE: logits of the entries of the teacher's codebooks, where they are asked for.
        predict: the prediction network, for other labels than the reference.
    """

    encoder_BTJ: Tensor
    decoder_BUJ: Tensor
    joint: Callable[[Tensor, Tensor], Tensor]
    frames_B: Tensor
    hidden_BTD: Tensor
    ctc_logits_BTV: Tensor | None
    vectors_BTD: Tensor | None = None
    codes_BTQE: Tensor | None = None
    predict: Callable[[Tensor], Tensor] | None = None

    def factored(self) -> FactoredLogits:
        """The lattice for a loss, which evaluates the joint network where and when it needs it."""
        return FactoredLogits(self.encoder_BTJ, self.decoder_BUJ, self.joint)

    def factored_of(self, labels_BU: Tensor) -> FactoredLogits:
        """The same of other labels than the reference.

        Args:
            labels_BU: int64; any class id in padding.
        """
        assert self.predict is not None
        return FactoredLogits(self.encoder_BTJ, self.predict(labels_BU), self.joint)

    def lattice_logits(self) -> Tensor:
        """Logits of every node, multiplied out: (B, T, U+1, V)."""
        return self.factored().lattice_logits()

    def band_logits(self, starts_BT: Tensor, width: int) -> Tensor:
        """Logits at the nodes of a band alone, (B, T, S, V): see ``kdcache.lattice.banded``.

        Args:
            starts_BT: int64 first column of each window, for as many frames.
            width: S.
        """
        columns_BTS = band_columns(starts_BT, width, self.decoder_BUJ.shape[1])
        return self.factored().logits_at(columns_BTS)


class TransducerStudent(nn.Module):
    """A transducer that goes from samples to lattice logits.

    Args:
        model: the network; its blank is ``config.blank_token_id``.
        extractor: samples → log-mel features.
        tokenizer: the tokenizer whose ids its classes are.
        ctc_head: whether to add a CTC projection of the encoder.
        hidden_head: width of a projection onto a teacher's hidden states; 0 for none.
        codebook_head: codebooks whose entries are predicted from the encoder; 0 for none.
    """

    def __init__(
        self,
        model: ParakeetForRNNT,
        extractor: ParakeetFeatureExtractor,
        tokenizer: Tokenizer,
        *,
        ctc_head: bool = False,
        hidden_head: int = 0,
        codebook_head: int = 0,
    ) -> None:
        super().__init__()
        self.model = model
        self.extractor = extractor
        self.tokenizer = tokenizer
        config = model.config
        width, classes = config.encoder_config.hidden_size, config.vocab_size
        self.ctc_head = nn.Linear(width, classes) if ctc_head else None
        self.hidden_head = nn.Linear(width, hidden_head) if hidden_head else None
        entries = codebook_head * ENTRIES
        self.codebook_head = nn.Linear(width, entries) if codebook_head else None

    @property
    def blank(self) -> int:
        """Class id of blank."""
        return int(self.model.config.blank_token_id)

    @property
    def sample_rate(self) -> int:
        """Hz that it expects."""
        return int(self.extractor.sampling_rate)

    @property
    def frame_shift(self) -> float:
        """Seconds between two encoder frames."""
        subsampling = self.model.config.encoder_config.subsampling_factor
        return float(subsampling * self.extractor.hop_length / self.extractor.sampling_rate)

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.parameters()).device

    def features(self, audio_BN: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised log-mel features (B, F, M) and their mask (B, F), on the model's device."""
        samples = [row[:n].cpu() for row, n in zip(audio_BN, lengths_B.tolist(), strict=True)]
        out = self.extractor(samples, sampling_rate=self.sample_rate, return_tensors="pt")
        return out["input_features"].to(self.device), out["attention_mask"].to(self.device)

    def encode(self, features_BFM: Tensor, mask_BF: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Hidden states (B, T, D), joint inputs (B, T, J) and frames (B,)."""
        out = self.model.get_audio_features(features_BFM, attention_mask=mask_BF)
        frames_B = out.attention_mask.sum(-1).long()
        return out.last_hidden_state, out.pooler_output, frames_B

    def predict(self, labels_BU: Tensor) -> Tensor:
        """Prediction network over blank and the labels: (B, U+1, J)."""
        start = labels_BU.new_full((labels_BU.shape[0], 1), self.blank)
        output: Tensor = self.model.decoder(torch.cat([start, labels_BU], dim=1))
        return output

    def forward(self, batch: Batch, augment: SpecAugment | None = None) -> StudentOutput:
        """What its lattice is made of; ``augment`` masks its features, by utterance id."""
        if batch.audio_BN is None or batch.audio_lengths_B is None:
            raise ConfigError(
                "The student needs audio, but the stream carries none; stream with audio from "
                "the cache or from the corpus."
            )
        features_BFM, mask_BF = self.features(batch.audio_BN, batch.audio_lengths_B)
        if augment is not None:
            features_BFM = mask_features(features_BFM, mask_BF, batch.ids, augment)
        hidden_BTD, encoder_BTJ, frames_B = self.encode(features_BFM, mask_BF)
        frames = int(frames_B.max())
        hidden_BTD, encoder_BTJ = hidden_BTD[:, :frames], encoder_BTJ[:, :frames]
        decoder_BUJ = self.predict(batch.labels_BU)
        ctc = self.ctc_head(hidden_BTD) if self.ctc_head is not None else None
        vectors = self.hidden_head(hidden_BTD) if self.hidden_head is not None else None
        codes = self.codebook_head(hidden_BTD) if self.codebook_head is not None else None
        return StudentOutput(
            encoder_BTJ,
            decoder_BUJ,
            self.model.joint,
            frames_B,
            hidden_BTD,
            ctc,
            vectors,
            codes if codes is None else codes.unflatten(-1, (-1, ENTRIES)),
            self.predict,
        )


def build_student(settings: StudentSettings, tokenizer: Tokenizer) -> TransducerStudent:
    """A student with random weights (from torch's global seed), blank after the last token."""
    model = ParakeetForRNNT(_network_config(settings, tokenizer.vocab_size))
    _scale_by_fan_in(model)
    extractor = ParakeetFeatureExtractor()
    return TransducerStudent(
        model,
        extractor,
        tokenizer,
        ctc_head=settings.ctc_head,
        hidden_head=settings.hidden_head,
        codebook_head=settings.codebook_head,
    )


def _scale_by_fan_in(model: nn.Module) -> None:
    """Draw weights anew by each layer's own rule, which keeps a signal's size.

    transformers draws all of them with a standard deviation of 0.02, which suits layers some
    thousand wide. A narrow subsampling then gives out a ten-thousandth of what it is given,
    and the student spends hundreds of steps as a language model before it begins to hear.
    """
    for layer in model.modules():
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Linear | nn.LSTM):
            layer.reset_parameters()


def _network_config(settings: StudentSettings, tokens: int) -> ParakeetRNNTConfig:
    dropouts: dict[str, Any] = dict.fromkeys(
        ("dropout", "activation_dropout", "attention_dropout"), settings.dropout
    )
    encoder = ParakeetEncoderConfig(
        hidden_size=settings.hidden,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        intermediate_size=settings.hidden * settings.feed_forward,
        conv_kernel_size=settings.conv_kernel,
        subsampling_factor=settings.subsampling,
        subsampling_conv_channels=settings.subsampling_channels,
        layerdrop=0.0,
        **dropouts,
    )
    return ParakeetRNNTConfig(
        vocab_size=tokens + 1,
        blank_token_id=tokens,
        pad_token_id=tokens,
        decoder_hidden_size=settings.joint,
        num_decoder_layers=settings.prediction_layers,
        encoder_config=encoder.to_dict(),
    )
