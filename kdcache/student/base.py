"""What training and scoring ask of every student, whatever it is made of.

Shapes: B batch, N samples.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from kdcache.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

    from kdcache.batch import Batch
    from kdcache.corpus.tokenizer import Tokenizer
    from kdcache.student.augment import SpecAugment
    from kdcache.student.output import StudentOutput

SAMPLE_RATE = 16_000
"""Hz that students hear, unless their feature extractor has a rate of its own."""


class Student(nn.Module, ABC):
    """A network that goes from samples to what a loss or a decoder needs.

    Attributes:
        kind: its name in ``student.kind`` and in ``kdcache.student.registry``; scoring chooses the
            decoder by it.
        tokenizer: the tokenizer whose ids its classes are.
    """

    kind: ClassVar[str]
    tokenizer: Tokenizer

    @property
    @abstractmethod
    def blank(self) -> int:
        """Class id of blank; also where an attention decoder starts and ends."""

    @property
    @abstractmethod
    def frame_shift(self) -> float:
        """Seconds between two encoder frames."""

    @property
    @abstractmethod
    def network(self) -> nn.Module:
        """What decodes; heads that only training uses are left out."""

    def parts(self) -> dict[str, nn.Module]:
        """What can be frozen by itself, by the names that its settings list as ``PARTS``."""
        return {}

    def grow(self, settings: Any) -> None:
        """Add what the settings ask for and it lacks, with random weights, where its kind can."""

    @property
    def sample_rate(self) -> int:
        """Hz that it expects."""
        extractor = getattr(self, "extractor", None)
        return SAMPLE_RATE if extractor is None else int(extractor.sampling_rate)

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.parameters()).device

    @abstractmethod
    def forward(
        self,
        batch: Batch,
        augment: SpecAugment | None = None,
        precision: torch.dtype = torch.float32,
    ) -> StudentOutput:
        """All that losses may ask for, the reference's labels read where a decoder reads them.

        Args:
            batch: with audio.
            augment: masks its features, by utterance id.
            precision: of the network's products; features, sums of probabilities and weights
                stay float32.

        Raises:
            ConfigError: the batch has no audio.
        """

    @abstractmethod
    def hear(self, audio_BN: Tensor, lengths_B: Tensor) -> StudentOutput:
        """What decoding begins with; no labels are read.

        Args:
            audio_BN: float32 samples at ``sample_rate``, padded.
            lengths_B: samples of each utterance.
        """

    def begin(self, settings: Any) -> Student:
        """This student as a run that starts from it wants it; itself, unless a kind has more.

        Args:
            settings: of the run's student, perhaps of another kind; sizes are not looked at.
        """
        del settings
        return self

    @abstractmethod
    def save(self, directory: Path) -> None:
        """Write it into a directory that exists, so that :meth:`load` reads it."""

    @classmethod
    @abstractmethod
    def load(cls, directory: Path) -> Self:
        """Read what :meth:`save` wrote.

        Raises:
            InputError: it is not a student of this kind.
            TokenizerError: the tokenizer is not the model's.
        """

    @classmethod
    @abstractmethod
    def build(cls, settings: Any, tokenizer: Tokenizer) -> Self:
        """One with random weights, drawn from torch's global generator."""


def audio_of(batch: Batch) -> tuple[Tensor, Tensor]:
    """Samples (B, N) and their lengths (B,).

    Raises:
        ConfigError: the batch has none.
    """
    if batch.audio_BN is None or batch.audio_lengths_B is None:
        raise ConfigError(
            "The student needs audio, but the stream carries none; stream with audio from "
            "the cache or from the corpus."
        )
    return batch.audio_BN, batch.audio_lengths_B
