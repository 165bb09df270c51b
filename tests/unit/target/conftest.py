"""Logits to reduce, and teachers' outputs made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor

from kdcache.target.likelihood import lattice_likelihood
from kdcache.teacher.protocol import LatticeLogits, TeacherOutput
from kdcache.types import TeacherKind, TeacherSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kdcache.teacher.protocol import Predictor


def table_lattice(logits_TUV: Tensor, blank: int) -> LatticeLogits:
    """A lattice whose logits are these: frames and columns are looked up in the table."""
    frames, columns, _ = logits_TUV.shape

    def joint(encoder: Tensor, decoder: Tensor) -> Tensor:
        return logits_TUV[encoder[..., 0].long(), decoder[..., 0].long()]

    return LatticeLogits(
        encoder_TJ=torch.arange(frames, dtype=torch.float32)[:, None],
        decoder_UJ=torch.arange(columns, dtype=torch.float32)[:, None],
        joint=joint,
        blank=blank,
    )


def lattice_output(
    logits_TUV: Tensor, tokens: tuple[int, ...], blank: int, **parts: Any
) -> TeacherOutput:
    """A transducer's output with this lattice."""
    frames = logits_TUV.shape[0]
    return TeacherOutput(
        frames=frames,
        tokens=tokens,
        hidden_TD=torch.zeros(frames, 2),
        lattice=table_lattice(logits_TUV, blank),
        **parts,
    )


@pytest.fixture
def normal() -> Callable[..., Tensor]:
    """Random logits of a shape, peaky as a trained teacher's are."""

    def make(*shape: int, seed: int = 0) -> Tensor:
        return 4.0 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))

    return make


@pytest.fixture
def spec() -> Callable[..., TeacherSpec]:
    def make(*targets: str, kind: str = "transducer", vocab_size: int = 12) -> TeacherSpec:
        return TeacherSpec(
            name="t",
            kind=TeacherKind(kind),
            vocab_size=vocab_size,
            blank_id=vocab_size - 1,
            sample_rate=16000,
            frame_shift=0.04,
            hidden_size=2,
            targets=tuple(sorted(targets)),
            tokenizer="k",
            fingerprint="f",
        )

    return make


def states_after(predictor: Predictor, labels: Sequence[int]) -> Tensor:
    """Outputs of a prediction network before and after each label, one by one: (U+1, J)."""
    output_1J, state = predictor.start()
    outputs = [output_1J]
    for label in labels:
        output_1J, state = predictor.step(torch.tensor([label]), state)
        outputs.append(output_1J)
    return torch.cat(outputs)


class ToyTransducer:
    """A transducer whose prediction network hears every label; blank is the last class.

    Args:
        frames, labels: T, and classes beside blank.
        seed: of the weights.
        blank_bias: added to blank's logits.
    """

    width = 6

    def __init__(self, frames: int, labels: int, seed: int, blank_bias: float = 1.0) -> None:
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator)

        self._encoder_TJ = draw(frames, self.width)
        self._embed, self._mix = draw(labels + 1, self.width), draw(self.width, self.width)
        self._out = 2 * draw(self.width, labels + 1)
        self._bias = torch.zeros(labels + 1)
        self._bias[labels] = blank_bias
        self.blank = labels

    def start(self) -> tuple[Tensor, tuple[Tensor, ...]]:
        state = torch.tanh(self._embed[[self.blank]])
        return state, (state,)

    def step(self, labels_N: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor]]:
        output = torch.tanh(state[0] @ self._mix + self._embed[labels_N])
        return output, (output,)

    def lattice(self, labels: tuple[int, ...]) -> LatticeLogits:
        return LatticeLogits(
            encoder_TJ=self._encoder_TJ,
            decoder_UJ=states_after(self, labels),
            joint=lambda e, d: torch.tanh(e + d) @ self._out + self._bias,
            blank=self.blank,
            predictor=self,
        )

    def likelihood(self, labels: tuple[int, ...]) -> float:
        return lattice_likelihood(self.lattice(labels), labels)
