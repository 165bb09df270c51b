"""What all transformers adapters share: loading, checks at the edge, the spec.

An adapter says how to load its model and how to run a batch that has been checked.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from kdcache.corpus.tokenizer import load_tokenizer
from kdcache.errors import AudioError, TeacherError, TokenizerError, TranscriptError
from kdcache.teacher.directory import TeacherDirectory, open_directory
from kdcache.teacher.fingerprint import teacher_fingerprint
from kdcache.teacher.model import load_extractor, load_model
from kdcache.teacher.registry import architecture_of
from kdcache.types import TeacherKind, TeacherSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from kdcache.corpus.tokenizer import Tokenizer
    from kdcache.teacher.protocol import TeacherOutput


class TransformersTeacher(ABC):
    """A teacher over a model of ``transformers``.

    Args:
        directory: where it lies.
        device: a torch device.
        dtype: of weights and activations.

    Raises:
        TeacherError: the directory cannot be used.
        TokenizerError: the tokenizer cannot be loaded or is not the model's.
        ConfigError: unknown device or dtype.
    """

    kind: ClassVar[TeacherKind]
    version: ClassVar[str]
    """Goes into the fingerprint; raised when the adapter's numbers change."""

    def __init__(self, directory: str | Path, device: str = "cpu", dtype: str = "float32") -> None:
        files = open_directory(directory)
        self.architecture = architecture_of(files.config)
        self.model = self._load(files, device, dtype)
        self.extractor = load_extractor(files, self.extractor_class())
        self._tokenizer = load_tokenizer(files.path)
        self._prepare(files)
        self._spec = self._make_spec(files, dtype)

    @property
    def spec(self) -> TeacherSpec:
        """What this teacher is."""
        return self._spec

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer whose ids the teacher's classes are."""
        return self._tokenizer

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        where: torch.device = self.model.device
        return where

    @property
    def dtype(self) -> torch.dtype:
        """Of its weights and activations."""
        number: torch.dtype = self.model.dtype
        return number

    def forward(
        self, audio: Sequence[np.ndarray], tokens: Sequence[Sequence[int]]
    ) -> list[TeacherOutput]:
        """Run one padded batch without gradients; see ``Teacher.forward``."""
        if len(audio) != len(tokens):
            raise ValueError(f"{len(audio)} utterances have {len(tokens)} token sequences.")
        samples = [self.parse_audio(row) for row in audio]
        labels = [self.parse_tokens(row) for row in tokens]
        if not samples:
            return []
        with torch.no_grad():
            return self._forward(samples, labels)

    def parse_audio(self, samples: np.ndarray) -> np.ndarray:
        """``samples`` as float32, checked to be long enough, finite and mono.

        Raises:
            AudioError: they cannot be used.
        """
        if samples.ndim != 1:
            raise AudioError(f"Audio has shape {samples.shape}, expected one channel.")
        shortest = self.shortest_audio
        if len(samples) < shortest:
            rate = self.extractor.sampling_rate
            raise AudioError(
                f"{len(samples) / rate:.3f} s of audio are less than the {shortest / rate:.3f} s "
                "that this teacher needs; drop the utterance."
            )
        if not np.isfinite(samples).all():
            raise AudioError("Audio holds NaN or infinite samples; decode it again or drop it.")
        return np.ascontiguousarray(samples, dtype=np.float32)

    def parse_tokens(self, tokens: Sequence[int]) -> tuple[int, ...]:
        """``tokens`` checked to be label classes of this teacher.

        Raises:
            TranscriptError: an id is out of range or is blank.
        """
        classes, blank = self.vocab_size, self.blank_id
        ids = tuple(int(token) for token in tokens)
        bad = [i for i in ids if not 0 <= i < classes or i == blank]
        if bad:
            raise TranscriptError(
                f"Token id {bad[0]} is no label of this teacher (0 to {classes - 1}, blank is "
                f"{blank}); encode the text with the teacher's own tokenizer."
            )
        return ids

    def compile_layers(self) -> None:
        """Have ``torch.compile`` make kernels of the encoder's layers when they are first run."""
        for layer in self.layers:
            layer.compile(dynamic=True)

    def configured_class(self, name: str) -> int:
        """The class id that ``config.json`` gives under ``name``.

        Raises:
            TeacherError: it gives none, or one that the model does not have.
        """
        value = getattr(self.model.config, name, None)
        if not isinstance(value, int) or not 0 <= value < self.vocab_size:
            raise TeacherError(
                f"{self.architecture}: config.json has {name} {value!r}, expected blank's class "
                f"id, from 0 to {self.vocab_size - 1}; correct it."
            )
        return value

    @property
    def vocab_size(self) -> int:
        """Classes V of its posteriors, blank included where there is one."""
        return int(self.model.config.vocab_size)

    @property
    @abstractmethod
    def blank_id(self) -> int | None:
        """Class id of blank."""

    @property
    @abstractmethod
    def frame_shift(self) -> float:
        """Seconds between two encoder frames."""

    @property
    @abstractmethod
    def hidden_size(self) -> int:
        """Width of the encoder's output."""

    @property
    @abstractmethod
    def targets(self) -> tuple[str, ...]:
        """Kinds of targets that it can give, sorted."""

    @property
    @abstractmethod
    def layers(self) -> Iterable[torch.nn.Module]:
        """Layers of the encoder, in which most of the time goes."""

    @property
    @abstractmethod
    def shortest_audio(self) -> int:
        """Fewest samples that give a frame."""

    @abstractmethod
    def extractor_class(self) -> Any:
        """Class of its feature extractor."""

    @abstractmethod
    def _forward(
        self, audio: list[np.ndarray], tokens: list[tuple[int, ...]]
    ) -> list[TeacherOutput]:
        """Run one batch, already checked and not empty, without gradients."""

    def _load(self, files: TeacherDirectory, device: str, dtype: str) -> Any:
        """The model in evaluation mode, without gradients."""
        return load_model(files, self.architecture, device, dtype)

    def _prepare(self, files: TeacherDirectory) -> None:
        """Check that the parts fit, and load what else the adapter needs."""
        self._check_vocabulary(files)
        rate = self.extractor.sampling_rate
        if not isinstance(rate, int) or rate <= 0:
            raise TeacherError(f"{files.path}: sampling_rate is {rate!r}, expected Hz above 0.")

    def _check_vocabulary(self, files: TeacherDirectory) -> None:
        """Refuse a tokenizer that is not the model's: one class a token, and blank.

        A Hugging Face tokenizer may count blank (its padding token) among its own tokens.
        """
        tokens, classes = self._tokenizer.vocab_size, self.vocab_size
        if tokens not in (classes - 1, classes):
            raise TokenizerError(
                f"{files.path}: the tokenizer has {tokens} tokens and the model {classes} classes, "
                f"expected {classes - 1} tokens and blank; put the model's own tokenizer there."
            )

    def _make_spec(self, files: TeacherDirectory, dtype: str) -> TeacherSpec:
        fingerprint = teacher_fingerprint(
            files,
            tokenizer=self._tokenizer.fingerprint,
            adapter=f"{type(self).__name__}-{self.version}",
            dtype=dtype,
        )
        return TeacherSpec(
            name=files.name,
            kind=self.kind,
            vocab_size=self.vocab_size,
            blank_id=self.blank_id,
            sample_rate=int(self.extractor.sampling_rate),
            frame_shift=self.frame_shift,
            hidden_size=self.hidden_size,
            targets=self.targets,
            tokenizer=self._tokenizer.fingerprint,
            fingerprint=fingerprint,
        )
