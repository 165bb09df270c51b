"""A transducer student: features, FastConformer encoder, LSTM prediction network, joint.

The network is ``transformers``' ParakeetForRNNT, so that a trained student is a directory
that ``from_pretrained`` loads and that can be a teacher itself (self-distillation chains). With an
additive joint it is one of ``kdcache.network``, and J is V.

Shapes: B batch, N samples, F feature frames, M mel bands, T encoder frames, U labels,
V vocabulary with blank (the last class), J joint width, D hidden size.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import ParakeetEncoderConfig, ParakeetForRNNT, ParakeetRNNTConfig
from transformers.models.parakeet import ParakeetFeatureExtractor

from kdcache.codec.codebooks import ENTRIES
from kdcache.errors import ConfigError
from kdcache.network.additive_transducer import AdditiveTransducer, AdditiveTransducerConfig
from kdcache.network.attention_decoder import AttentionDecoder
from kdcache.network.log_mel import log_mel
from kdcache.student.augment import mask_features
from kdcache.student.base import Student, audio_of
from kdcache.student.output import StudentOutput
from kdcache.student.transducer_files import read_transducer, write_transducer

if TYPE_CHECKING:
    from pathlib import Path

    from kdcache.batch import Batch
    from kdcache.corpus.tokenizer import Tokenizer
    from kdcache.network.decoder_settings import DecoderSettings
    from kdcache.student.augment import SpecAugment
    from kdcache.student.settings import StudentSettings


class TransducerStudent(Student):
    """A transducer that goes from samples to lattice logits.

    Args:
        model: the network; its blank is ``config.blank_token_id``.
        extractor: samples → log-mel features.
        tokenizer: the tokenizer whose ids its classes are.
        ctc_head: whether to add a CTC projection of the encoder.
        hidden_head: width of a projection onto a teacher's hidden states; 0 for none.
        codebook_head: codebooks whose entries are predicted from the encoder; 0 for none.
        rescorer: sizes of an attention decoder on the same encoder; ``None`` for none.
    """

    kind: ClassVar[str] = "transducer"

    def __init__(
        self,
        model: ParakeetForRNNT,
        extractor: ParakeetFeatureExtractor,
        tokenizer: Tokenizer,
        *,
        ctc_head: bool = False,
        hidden_head: int = 0,
        codebook_head: int = 0,
        rescorer: DecoderSettings | None = None,
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
        self.rescorer = AttentionDecoder(classes, width, rescorer) if rescorer else None

    @property
    def blank(self) -> int:
        """Class id of blank."""
        return int(self.model.config.blank_token_id)

    @property
    def network(self) -> nn.Module:
        """What decodes in the first pass; heads that only training uses are left out."""
        whole: nn.Module = self.model
        return whole

    @property
    def is_additive(self) -> bool:
        """Whether the joint network only adds, so that what it takes of the encoder are logits."""
        return isinstance(self.model, AdditiveTransducer)

    def parts(self) -> dict[str, nn.Module]:
        """Encoder, prediction network, joint network with its projection, and the heads."""
        model = self.model
        joint = nn.ModuleList([model.encoder_projector, model.joint])
        own: dict[str, nn.Module] = {
            "encoder": model.encoder,
            "prediction": model.decoder,
            "joint": joint,
        }
        heads = ("ctc_head", "hidden_head", "codebook_head", "rescorer")
        found = {name: getattr(self, name) for name in heads}
        return own | {name: head for name, head in found.items() if head is not None}

    def share_decoder(self, other: TransducerStudent) -> None:
        """Have prediction network and joint network of another from now on, weights and all.

        Raises:
            ConfigError: they are of other sizes.
        """
        mine, others = (_decoder_shapes(model) for model in (self.model, other.model))
        if mine != others:
            raise ConfigError(
                "The two transducers' prediction and joint networks differ in size or kind, so "
                "that they cannot share them; give both the same joint, joint_kind and "
                "prediction_layers."
            )
        self.model.decoder, self.model.joint = other.model.decoder, other.model.joint

    def grow(self, settings: Any) -> None:
        """Add a rescorer, if it is asked for."""
        asked: DecoderSettings | None = getattr(settings, "rescorer", None)
        if self.rescorer is None and asked is not None:
            config = self.model.config
            width = config.encoder_config.hidden_size
            self.rescorer = AttentionDecoder(config.vocab_size, width, asked)

    @property
    def frame_shift(self) -> float:
        """Seconds between two encoder frames."""
        subsampling = self.model.config.encoder_config.subsampling_factor
        return float(subsampling * self.extractor.hop_length / self.extractor.sampling_rate)

    def features(self, audio_BN: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised log-mel features (B, F, M) and their mask (B, F), on the model's device."""
        return log_mel(self.extractor, audio_BN.to(self.device), lengths_B)

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

    def forward(
        self,
        batch: Batch,
        augment: SpecAugment | None = None,
        precision: torch.dtype = torch.float32,
    ) -> StudentOutput:
        """What its lattice is made of.

        Args:
            batch: with audio.
            augment: masks its features, by utterance id.
            precision: of the network's products, here and where a loss evaluates the joint
                network later; features, sums of probabilities and weights stay float32.

        Raises:
            ConfigError: the batch has no audio.
        """
        features_BFM, mask_BF = self.features(*audio_of(batch))
        if augment is not None:
            features_BFM = mask_features(features_BFM, mask_BF, batch.ids, augment)
        low = torch.autocast(
            features_BFM.device.type, torch.bfloat16, enabled=precision == torch.bfloat16
        )
        with low:
            heard = self._hear(features_BFM, mask_BF)
            decoder_BUJ = self.predict(batch.labels_BU)
            heads = (self.hidden_head, self.codebook_head)
            vectors, codes = (None if h is None else h(heard.hidden_BTD).float() for h in heads)
            spelt = self._spell(heard, batch.labels_BU)
        return replace(
            heard,
            decoder_BUJ=decoder_BUJ,
            joint=low(self.model.joint),
            vectors_BTD=vectors,
            codes_BTQE=codes if codes is None else codes.unflatten(-1, (-1, ENTRIES)),
            predict=low(self.predict),
            attention_logits_BUV=spelt,
        )

    def hear(self, audio_BN: Tensor, lengths_B: Tensor) -> StudentOutput:
        """What the encoder makes of samples; no labels are read."""
        return self._hear(*self.features(audio_BN, lengths_B))

    def _spell(self, heard: StudentOutput, labels_BU: Tensor) -> Tensor | None:
        """The rescorer's logits, (B, U+1, V)."""
        if self.rescorer is None:
            return None
        logits_BUV: Tensor = self.rescorer(labels_BU, heard.hidden_BTD, heard.frames_B)
        return logits_BUV.float()

    def _hear(self, features_BFM: Tensor, mask_BF: Tensor) -> StudentOutput:
        hidden_BTD, encoder_BTJ, frames_B = self.encode(features_BFM, mask_BF)
        frames = int(frames_B.max())
        hidden_BTD, encoder_BTJ = hidden_BTD[:, :frames], encoder_BTJ[:, :frames]
        ctc = None if self.ctc_head is None else self.ctc_head(hidden_BTD).float()
        return StudentOutput(
            encoder_BTJ=encoder_BTJ,
            decoder_BUJ=None,
            joint=self.model.joint,
            frames_B=frames_B,
            hidden_BTD=hidden_BTD,
            ctc_logits_BTV=ctc,
            own_logits_BTV=encoder_BTJ.float() if self.is_additive else None,
        )

    def save(self, directory: Path) -> None:
        """See ``kdcache.student.transducer_files``."""
        write_transducer(self, directory)

    @classmethod
    def load(cls, directory: Path) -> TransducerStudent:
        """See ``kdcache.student.transducer_files``."""
        parts = read_transducer(directory)
        student = cls(parts.model, parts.extractor, parts.tokenizer, **parts.heads)
        parts.fill(student)
        student.rescorer = parts.rescorer
        return student

    @classmethod
    def build(cls, settings: Any, tokenizer: Tokenizer) -> TransducerStudent:
        """See :func:`kdcache.student.build_student`."""
        return build_transducer(settings, tokenizer)


def _decoder_shapes(model: ParakeetForRNNT) -> dict[str, tuple[int, ...]]:
    """Shapes of the weights by name; of which kind the joint network is says its class."""
    parts = {"decoder": model.decoder, type(model.joint).__name__: model.joint}
    return {
        f"{name}.{key}": tuple(value.shape)
        for name, part in parts.items()
        for key, value in part.state_dict().items()
    }


def build_transducer(settings: StudentSettings, tokenizer: Tokenizer) -> TransducerStudent:
    """A student with random weights (from torch's global seed), blank after the last token."""
    config = _network_config(settings, tokenizer.vocab_size)
    additive = isinstance(config, AdditiveTransducerConfig)
    model = AdditiveTransducer(config) if additive else ParakeetForRNNT(config)
    _scale_by_fan_in(model)
    extractor = ParakeetFeatureExtractor()
    return TransducerStudent(
        model,
        extractor,
        tokenizer,
        ctc_head=settings.ctc_head,
        hidden_head=settings.hidden_head,
        codebook_head=settings.codebook_head,
        rescorer=settings.rescorer,
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
    made = AdditiveTransducerConfig if settings.joint_kind == "additive" else ParakeetRNNTConfig
    return made(
        vocab_size=tokens + 1,
        blank_token_id=tokens,
        pad_token_id=tokens,
        decoder_hidden_size=settings.joint,
        num_decoder_layers=settings.prediction_layers,
        encoder_config=encoder.to_dict(),
    )
