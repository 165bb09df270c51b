"""SAN-M teachers: an encoder with a memory and an attention decoder (``kdcache.network.san_m``).

transformers has no such model; what `kdcache train` writes of a student of kind ``san_m`` is such a
teacher's directory. The decoder starts and ends with its last class, which is also blank among the
frame logits of an auxiliary CTC head, where there is one (``ctc_head.safetensors``).

Shapes: B batch, F feature frames, M mel bands, T encoder frames, U labels, D hidden size, V
vocabulary with the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import linear
from torch.nn.utils.rnn import pad_sequence

from kdcache.errors import InputError, TeacherError, TranscriptError
from kdcache.network.san_m_files import load_san_m
from kdcache.teacher.model import parse_device, parse_dtype
from kdcache.teacher.parakeet import ParakeetTeacher
from kdcache.teacher.protocol import TeacherOutput
from kdcache.teacher.transducer import read_ctc_head
from kdcache.types import TeacherKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    from torch import Tensor
    from torch.nn import Module

    from kdcache.teacher.directory import TeacherDirectory


class SanMTeacher(ParakeetTeacher):
    """A SAN-M network as a teacher, on a Parakeet's features."""

    kind = TeacherKind.ATTENTION
    version = "1"

    def _load(self, files: TeacherDirectory, device: str, dtype: str) -> Any:
        where, number = parse_device(device), parse_dtype(dtype)
        try:
            network = load_san_m(files.path)
        except InputError as error:
            raise TeacherError(error.message) from error
        return network.to(where, number).requires_grad_(False)

    def _prepare(self, files: TeacherDirectory) -> None:
        super()._prepare(files)
        shape = (self.vocab_size, self.hidden_size)
        head = read_ctc_head(files.ctc_head, shape) if files.ctc_head else None
        if head is not None:
            head = (head[0].to(self.device, self.dtype), head[1].to(self.device, self.dtype))
        self._head = head

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        where: torch.device = self.model.encoder.norm.weight.device
        return where

    @property
    def dtype(self) -> torch.dtype:
        """Of its weights and activations."""
        number: torch.dtype = self.model.encoder.norm.weight.dtype
        return number

    @property
    def vocab_size(self) -> int:
        """Classes V, the end included."""
        return int(self.model.classes)

    @property
    def blank_id(self) -> None:
        """An attention decoder has no blank."""
        return

    @property
    def end_id(self) -> int:
        """Where the decoder starts and ends; a CTC head's blank."""
        return self.vocab_size - 1

    @property
    def frame_shift(self) -> float:
        """Hop of the features times the encoder's subsampling, in seconds."""
        hop = self.extractor.hop_length * self.model.settings.subsampling
        return float(hop / self.extractor.sampling_rate)

    @property
    def hidden_size(self) -> int:
        """Width of the encoder's output."""
        return int(self.model.settings.hidden)

    @property
    def targets(self) -> tuple[str, ...]:
        """Encoder logits only with an auxiliary head."""
        heads = ("decoder_logits",) if self._head is None else ("decoder_logits", "encoder_logits")
        return (*heads, "features", "hidden")

    @property
    def layers(self) -> Iterable[Module]:
        """Sets of weights of the encoder's layers."""
        sets: Iterable[Module] = self.model.encoder.layers
        return sets

    def parse_tokens(self, tokens: Sequence[int]) -> tuple[int, ...]:
        """As in the base, and none of them the end."""
        ids = super().parse_tokens(tokens)
        if self.end_id in ids:
            raise TranscriptError(
                f"Token id {self.end_id} is no label: this teacher's decoder ends with it; encode "
                "the text with the teacher's own tokenizer."
            )
        return ids

    def _forward(
        self, audio: list[np.ndarray], tokens: list[tuple[int, ...]]
    ) -> list[TeacherOutput]:
        features_BFM, mask_BF = self.features(audio)
        hidden_BTD, frames_B = self.model.encode(features_BFM.to(self.dtype), mask_BF)
        rows = [torch.tensor(labels, dtype=torch.long, device=self.device) for labels in tokens]
        labels_BU = pad_sequence(rows, batch_first=True)
        logits_BUV = self.model.decoder(labels_BU, hidden_BTD, frames_B)
        return [
            TeacherOutput(
                frames=frames,
                tokens=labels,
                hidden_TD=hidden_BTD[row, :frames],
                frame_logits_TV=self._frame_logits(hidden_BTD[row, :frames]),
                token_logits_UV=logits_BUV[row, : len(labels) + 1],
                features_FM=features_BFM[row, : int(mask_BF[row].sum())],
                end=self.end_id,
                blank=self.end_id,
            )
            for row, (frames, labels) in enumerate(zip(frames_B.tolist(), tokens, strict=True))
        ]

    def _frame_logits(self, hidden_TD: Tensor) -> Tensor | None:
        return None if self._head is None else linear(hidden_TD, *self._head)
