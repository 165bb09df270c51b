"""Attention decoder teachers: ``WhisperForConditionalGeneration``.

The decoder is run on its prompt (start, language, task, no timestamps, as the generation
config says), then on the reference's tokens; it is asked for each token and for the end. Its
raw logits are kept: what generation suppresses is a rule of decoding, not a belief.

The encoder reads one window (30 s) padded with silence; frames beyond the samples are cut
off. Audio longer than the window is refused, not truncated.

Shapes: B batch, F feature frames, M mel bands, T encoder frames, U labels, P prompt tokens, L
= P + U, D hidden size, V vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import WhisperFeatureExtractor

from kdcache.errors import AudioError, TokenizerError, TranscriptError
from kdcache.teacher.base import TransformersTeacher
from kdcache.teacher.prompt import Prompt, read_prompt
from kdcache.teacher.protocol import TeacherOutput
from kdcache.types import TeacherKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    from torch.nn import Module

    from kdcache.teacher.directory import TeacherDirectory

ENCODER_STRIDE = 2
"""Feature frames of one encoder frame: the stride of Whisper's second convolution."""


class WhisperTeacher(TransformersTeacher):
    """A ``WhisperForConditionalGeneration`` as a teacher."""

    kind = TeacherKind.ATTENTION
    version = "1"

    def extractor_class(self) -> Any:
        """Log-mel features of one window."""
        return WhisperFeatureExtractor

    def _prepare(self, files: TeacherDirectory) -> None:
        super()._prepare(files)
        self._prompt: Prompt = read_prompt(
            self.model.generation_config, self.model.config, str(files.path)
        )

    @property
    def blank_id(self) -> None:
        """An attention decoder has no blank."""
        return

    @property
    def end_id(self) -> int | None:
        """The token that generation ends at; ``None`` where neither config names one."""
        for config in (self.model.generation_config, self.model.config):
            end = getattr(config, "eos_token_id", None)
            if end is not None:
                return int(end[0] if isinstance(end, list) else end)
        return None

    @property
    def frame_shift(self) -> float:
        """Hop of the features times the encoder's stride, in seconds."""
        return float(self._samples_per_frame / self.extractor.sampling_rate)

    @property
    def hidden_size(self) -> int:
        """Width of the encoder's output."""
        return int(self.model.config.d_model)

    @property
    def targets(self) -> tuple[str, ...]:
        """Token posteriors, the encoder and its features."""
        return ("decoder_logits", "features", "hidden")

    @property
    def layers(self) -> Iterable[Module]:
        """Blocks of the encoder, whose windows are longer than any transcript."""
        blocks: Iterable[Module] = self.model.model.encoder.layers
        return blocks

    @property
    def shortest_audio(self) -> int:
        """One sample: the rest of the window is silence."""
        return 1

    @property
    def _samples_per_frame(self) -> int:
        return ENCODER_STRIDE * int(self.extractor.hop_length)

    def parse_audio(self, samples: np.ndarray) -> np.ndarray:
        """As in the base, and short enough for one window."""
        checked = super().parse_audio(samples)
        if len(checked) > self.extractor.n_samples:
            seconds = len(checked) / self.extractor.sampling_rate
            raise AudioError(
                f"{seconds:.2f} s of audio are more than the {self.extractor.chunk_length} s that "
                "this teacher reads at once; cut the utterance or drop it."
            )
        return checked

    def parse_tokens(self, tokens: Sequence[int]) -> tuple[int, ...]:
        """As in the base, and few enough for the decoder's positions."""
        ids = super().parse_tokens(tokens)
        room = int(self.model.config.max_target_positions) - self._prompt.length
        if len(ids) > room:
            raise TranscriptError(
                f"{len(ids)} tokens are more than the {room} that this teacher's decoder holds "
                "beside its prompt; cut the utterance or drop it."
            )
        return ids

    def _check_vocabulary(self, files: TeacherDirectory) -> None:
        tokens, classes = self._tokenizer.vocab_size, self.vocab_size
        if tokens > classes:
            raise TokenizerError(
                f"{files.path}: the tokenizer has {tokens} tokens and the model {classes} classes, "
                "expected no more tokens than classes; put the model's own tokenizer there."
            )

    def _forward(
        self, audio: list[np.ndarray], tokens: list[tuple[int, ...]]
    ) -> list[TeacherOutput]:
        features_BMF = self._features(audio)
        hidden_BTD = self.model.model.encoder(features_BMF.to(self.dtype)).last_hidden_state
        states_BLD = self._decode(hidden_BTD, tokens)
        first = self._prompt.length - 1
        outputs = []
        for row, (samples, labels) in enumerate(zip(audio, tokens, strict=True)):
            frames = -(-len(samples) // self._samples_per_frame)
            feature_frames = -(-len(samples) // int(self.extractor.hop_length))
            states_UD = states_BLD[row, first : first + len(labels) + 1]
            outputs.append(
                TeacherOutput(
                    frames=frames,
                    tokens=labels,
                    hidden_TD=hidden_BTD[row, :frames],
                    token_logits_UV=self.model.proj_out(states_UD),
                    end=self.end_id,
                    features_FM=features_BMF[row, :, :feature_frames].T,
                )
            )
        return outputs

    def _features(self, audio: list[np.ndarray]) -> Tensor:
        """Log-mel features of whole windows, (B, M, F), float32."""
        rate, device = self.extractor.sampling_rate, str(self.device)
        out = self.extractor(audio, sampling_rate=rate, return_tensors="pt", device=device)
        features_BMF: Tensor = out["input_features"].to(self.device)
        return features_BMF

    def _decode(self, hidden_BTD: Tensor, tokens: list[tuple[int, ...]]) -> Tensor:
        """Decoder states over prompt and tokens, (B, L, D); causal, so padding is harmless."""
        prompt_BP = self._prompts(hidden_BTD)
        rows = [
            torch.cat([prompt, torch.tensor(labels, dtype=torch.long, device=self.device)])
            for prompt, labels in zip(prompt_BP, tokens, strict=True)
        ]
        ids_BL = pad_sequence(rows, batch_first=True, padding_value=self._prompt.start)
        states_BLD: Tensor = self.model.model.decoder(
            input_ids=ids_BL, encoder_hidden_states=hidden_BTD, use_cache=False
        ).last_hidden_state
        return states_BLD

    def _prompts(self, hidden_BTD: Tensor) -> Tensor:
        """Prompt tokens (B, P), with the language detected where none is set."""
        batch = hidden_BTD.shape[0]
        ids = [token if token is not None else -1 for token in self._prompt.tokens]
        prompt_BP = torch.tensor([ids] * batch, device=self.device)
        if None in self._prompt.tokens:
            detected_B = self._detect(hidden_BTD)
            prompt_BP = torch.where(prompt_BP < 0, detected_B[:, None], prompt_BP)
        return prompt_BP

    def _detect(self, hidden_BTD: Tensor) -> Tensor:
        """The likeliest language token of each utterance, (B,)."""
        start_B1 = torch.full((hidden_BTD.shape[0], 1), self._prompt.start, device=self.device)
        state_BD = self.model.model.decoder(
            input_ids=start_B1, encoder_hidden_states=hidden_BTD, use_cache=False
        ).last_hidden_state[:, 0]
        languages = torch.tensor(self._prompt.languages, device=self.device)
        scores_BL = self.model.proj_out(state_BD)[:, languages]
        return languages[scores_BL.argmax(-1)]
