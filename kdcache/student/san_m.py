"""A student with a SAN-M encoder and an attention decoder, on ``kdcache.network.san_m``.

On disk it is a directory as Hugging Face lays them out, and a teacher's:

    config.json  model.safetensors  preprocessor_config.json  <tokenizer files>
    ctc_head.safetensors   only where there is an auxiliary CTC head

Shapes: B batch, N samples, F feature frames, M mel bands, T encoder frames, U labels, D hidden
size, V vocabulary with blank.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers.models.parakeet import ParakeetFeatureExtractor

from kdcache.corpus.tokenizer import load_tokenizer
from kdcache.errors import TokenizerError
from kdcache.network.log_mel import log_mel
from kdcache.network.san_m import SanM
from kdcache.network.san_m_files import load_san_m, save_san_m
from kdcache.student.augment import mask_features
from kdcache.student.base import Student, audio_of
from kdcache.student.output import StudentOutput
from kdcache.student.transducer_files import CTC_HEAD

if TYPE_CHECKING:
    from pathlib import Path

    from kdcache.batch import Batch
    from kdcache.corpus.tokenizer import Tokenizer
    from kdcache.student.augment import SpecAugment


class SanMStudent(Student):
    """A network that spells what it hears.

    Args:
        model: encoder and decoder; its last class is blank, and where the decoder ends.
        extractor: samples → log-mel features.
        tokenizer: the tokenizer whose ids its classes are.
        ctc_head: whether to add a CTC projection of the encoder.
    """

    kind: ClassVar[str] = "san_m"

    def __init__(
        self,
        model: SanM,
        extractor: ParakeetFeatureExtractor,
        tokenizer: Tokenizer,
        *,
        ctc_head: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self.extractor = extractor
        self.tokenizer = tokenizer
        self.ctc_head = nn.Linear(model.settings.hidden, model.classes) if ctc_head else None

    @property
    def blank(self) -> int:
        """Class id of blank, of start and of end."""
        return self.model.classes - 1

    @property
    def network(self) -> nn.Module:
        """Encoder and decoder."""
        return self.model

    @property
    def frame_shift(self) -> float:
        """Seconds between two encoder frames."""
        hop = self.model.settings.subsampling * self.extractor.hop_length
        return float(hop / self.extractor.sampling_rate)

    def parts(self) -> dict[str, nn.Module]:
        """Encoder, decoder and the head."""
        own: dict[str, nn.Module] = {"encoder": self.model.encoder, "decoder": self.model.decoder}
        return own if self.ctc_head is None else {**own, "ctc_head": self.ctc_head}

    def forward(
        self,
        batch: Batch,
        augment: SpecAugment | None = None,
        precision: torch.dtype = torch.float32,
    ) -> StudentOutput:
        """What is heard, and the decoder's logits of the reference; see ``Student.forward``."""
        features_BFM, mask_BF = self.features(*audio_of(batch))
        if augment is not None:
            features_BFM = mask_features(features_BFM, mask_BF, batch.ids, augment)
        low = torch.autocast(
            features_BFM.device.type, torch.bfloat16, enabled=precision == torch.bfloat16
        )
        with low:
            heard = self._hear(features_BFM, mask_BF)
            spelt_BUV = self.model.decoder(batch.labels_BU, heard.hidden_BTD, heard.frames_B)
        return replace(heard, attention_logits_BUV=spelt_BUV.float())

    def features(self, audio_BN: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised log-mel features (B, F, M) and their mask (B, F), on the model's device."""
        return log_mel(self.extractor, audio_BN.to(self.device), lengths_B)

    def hear(self, audio_BN: Tensor, lengths_B: Tensor) -> StudentOutput:
        """What the encoder makes of samples; no labels are read."""
        return self._hear(*self.features(audio_BN, lengths_B))

    def _hear(self, features_BFM: Tensor, mask_BF: Tensor) -> StudentOutput:
        hidden_BTD, frames_B = self.model.encode(features_BFM, mask_BF)
        return StudentOutput(
            encoder_BTJ=None,
            decoder_BUJ=None,
            joint=None,
            frames_B=frames_B,
            hidden_BTD=hidden_BTD,
            ctc_logits_BTV=None if self.ctc_head is None else self.ctc_head(hidden_BTD).float(),
        )

    def save(self, directory: Path) -> None:
        """Write all its files."""
        save_san_m(self.model, directory)
        self.extractor.save_pretrained(directory)
        self.tokenizer.save(directory)
        if self.ctc_head is not None:
            weights = {k: v.detach().contiguous() for k, v in self.ctc_head.state_dict().items()}
            save_file(weights, directory / CTC_HEAD)

    @classmethod
    def load(cls, directory: Path) -> SanMStudent:
        """Read what :meth:`save` wrote; see ``Student.load``."""
        model = load_san_m(directory)
        extractor = ParakeetFeatureExtractor.from_pretrained(directory, local_files_only=True)
        tokenizer = load_tokenizer(directory)
        if tokenizer.vocab_size + 1 != model.classes:
            raise TokenizerError(
                f"{directory}: the tokenizer has {tokenizer.vocab_size} tokens and the model "
                f"{model.classes} classes, expected one more than tokens (blank)."
            )
        head = directory / CTC_HEAD
        student = cls(model, extractor, tokenizer, ctc_head=head.is_file())
        if student.ctc_head is not None:
            student.ctc_head.load_state_dict(load_file(head))
        return student

    @classmethod
    def build(cls, settings: Any, tokenizer: Tokenizer) -> SanMStudent:
        """With random weights, by each layer's own rule; blank after the last token."""
        model = SanM(tokenizer.vocab_size + 1, settings.sizes())
        return cls(model, ParakeetFeatureExtractor(), tokenizer, ctc_head=settings.ctc_head)
