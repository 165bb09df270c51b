"""What a teacher is to the rest of kdcache.

Shapes: T encoder frames, U labels, V vocabulary with blank, J joint width, D hidden size,
F feature frames, M mel bands.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    from torch import Tensor

    from kdcache.corpus.tokenizer import Tokenizer
    from kdcache.types import TeacherSpec


class Predictor(Protocol):
    """A prediction network, asked label by label: what a search for other labels needs.

    A state is a tuple of tensors with a row a sequence, so that sequences can be chosen,
    repeated and joined by their rows.
    """

    def start(self) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Output (1, J) before any label, and the state of that one sequence."""
        ...

    def step(
        self, labels_N: Tensor, state: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Outputs (N, J) after one more label of each of N sequences, and their states."""
        ...


@dataclass(frozen=True, slots=True)
class LatticeLogits:
    """A transducer's lattice, not yet multiplied out: rows of logits are made on demand.

    Attributes:
        encoder_TJ: projected encoder frames.
        decoder_UJ: projected prediction network states, (U+1, J), the first after blank.
        joint: maps frames (t, 1, J) and states (1, U+1, J), or (t, S, J) of a window in each
            frame, to logits (t, U+1, V) or (t, S, V).
        blank: class id of blank.
        predictor: the prediction network, for targets that look for labels of their own;
            ``None`` where a teacher does not offer it.
    """

    encoder_TJ: Tensor
    decoder_UJ: Tensor
    joint: Callable[[Tensor, Tensor], Tensor]
    blank: int
    predictor: Predictor | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(T, U+1)."""
        return self.encoder_TJ.shape[0], self.decoder_UJ.shape[0]

    def rows(self, start: int, stop: int) -> Tensor:
        """Logits of frames ``start`` to ``stop``: (stop − start, U+1, V)."""
        return self.joint(self.encoder_TJ[start:stop, None], self.decoder_UJ[None])

    def windows(self, start: int, stop: int, columns_TS: Tensor) -> Tensor:
        """Logits of frames ``start`` to ``stop`` at some columns: (stop − start, S, V).

        Args:
            start: first frame.
            stop: the one after the last.
            columns_TS: int64, which columns of each of all T frames.
        """
        return self.joint(
            self.encoder_TJ[start:stop, None], self.decoder_UJ[columns_TS[start:stop]]
        )


@dataclass(frozen=True, slots=True)
class TeacherOutput:
    """What a teacher says of one utterance, unpadded, on the teacher's device.

    Attributes:
        frames: T.
        tokens: the U label ids that it was conditioned on.
        hidden_TD: the encoder's last hidden states.
        frame_logits_TV: logits per encoder frame (CTC, or an auxiliary CTC head).
        lattice: a transducer's lattice.
        token_logits_UV: an attention decoder's teacher-forced logits, (U+1, V), the last
            row predicting the end.
        features_FM: the model's input features, where it has any.
        end: class id by which an attention decoder's last row says that nothing follows.
        utterance: id of the utterance, from which targets that draw at random are seeded; a
            teacher need not know it.
        blank: class id of blank among the frame logits, as its spec has it; a teacher need not
            repeat it.
        layers: (T, D) states that single layers give out, by their numbers from 1: those that a
            teacher was asked to keep (see :func:`keep_layers`).
    """

    frames: int
    tokens: tuple[int, ...]
    hidden_TD: Tensor
    frame_logits_TV: Tensor | None = None
    lattice: LatticeLogits | None = None
    token_logits_UV: Tensor | None = None
    features_FM: Tensor | None = None
    end: int | None = None
    utterance: str = ""
    blank: int | None = None
    layers: Mapping[int, Tensor] = field(default_factory=dict)


@runtime_checkable
class Teacher(Protocol):
    """A model that can be asked what it believes. Third parties implement this."""

    @property
    def spec(self) -> TeacherSpec:
        """What this teacher is."""
        ...

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer whose ids the teacher's classes are."""
        ...

    def forward(
        self, audio: Sequence[np.ndarray], tokens: Sequence[Sequence[int]]
    ) -> list[TeacherOutput]:
        """Run one padded batch without gradients.

        Args:
            audio: float32 mono samples of each utterance at ``spec.sample_rate``.
            tokens: label ids of each utterance; ignored by a CTC teacher.

        Returns:
            One output an utterance, in order; views into the padded batch. Beyond float
            round-off they do not depend on what else is in it.

        Raises:
            AudioError: an utterance's samples cannot be used (too short, too long, NaN).
            TranscriptError: an utterance's tokens cannot be used. Either stops the batch; run
                its utterances one by one to find which.
        """
        ...


@runtime_checkable
class Compilable(Protocol):
    """What an adapter offers beside ``Teacher`` so that its model can be compiled."""

    def compile_layers(self) -> None:
        """Have layers compiled when they are first run, for batches of any shape."""
        ...


def keep_layers(teacher: Teacher, layers: Sequence[int]) -> None:
    """Ask for states of single layers, which most targets do not need and which take memory.

    A teacher that can give them has an attribute ``kept_layers``; of others nothing is asked, and
    the target that needs them says so.
    """
    if layers and hasattr(teacher, "kept_layers"):
        teacher.kept_layers = tuple(sorted(set(layers)))
