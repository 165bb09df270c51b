"""Logits to reduce, and teachers' outputs made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor

from kdcache.teacher.protocol import LatticeLogits, TeacherOutput
from kdcache.types import TeacherKind, TeacherSpec

if TYPE_CHECKING:
    from collections.abc import Callable


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
