"""Losses of a student that gives the factors of its logits: those of the logits, in less room."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kdcache.errors import InputError
from kdcache.lattice import BandRule, FactoredLogits, factored
from kdcache.lattice.banded import band_columns
from kdcache.loss import collapse_lattice, lattice_kl, transducer_kd_loss

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from kdcache.batch import LatticeBatch
    from kdcache.loss import Nodes

VOCAB, WIDTH = 7, 4


class Student:
    """Random factors, and a teacher's lattice over the same nodes; blank is class 0."""

    def __init__(
        self, frames: list[int], lengths: list[int], dtype: torch.dtype = torch.float64
    ) -> None:
        generator = torch.Generator().manual_seed(0)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

        batch, columns = len(frames), max(lengths) + 1
        self.encoder = draw(batch, max(frames), WIDTH).requires_grad_()
        self.decoder = draw(batch, columns, WIDTH).requires_grad_()
        self.head = draw(WIDTH, VOCAB).requires_grad_()
        self.teacher = 2 * draw(batch, max(frames), columns, VOCAB)
        self.labels = torch.randint(1, VOCAB, (batch, columns - 1), generator=generator)
        self.frames, self.lengths = torch.tensor(frames), torch.tensor(lengths)

    @property
    def factors(self) -> FactoredLogits:
        return FactoredLogits(
            self.encoder, self.decoder, lambda d, e: torch.tanh(d + e) @ self.head
        )

    def target(self, top_k: int, width: int | None) -> LatticeBatch:
        lengths = (self.frames, self.lengths)
        rule = BandRule(width=width)
        return collapse_lattice(self.teacher, self.labels, *lengths, 0, top_k, rule)

    def losses(self, logits: Tensor | FactoredLogits, target: LatticeBatch, nodes: Nodes) -> Tensor:
        """RNN-T loss and KL of each utterance: (2, B)."""
        found = transducer_kd_loss(logits, target, self.labels, 0, 0.3, "none", nodes=nodes)
        torch.testing.assert_close(found.total, found.rnnt + 0.3 * found.kl)
        return torch.stack([found.rnnt, found.kl])

    def gradients(self, losses: Tensor) -> tuple[Tensor, ...]:
        weights = torch.linspace(1, 2, losses.numel(), dtype=losses.dtype).view(losses.shape)
        leaves = [self.encoder, self.decoder, self.head]
        return torch.autograd.grad((losses * weights).sum(), leaves)


def blocks_of(nodes: int) -> AbstractContextManager[None]:
    """Nothing is held, and blocks have so many nodes."""
    limits = {"HELD_ELEMENTS": 0, "BLOCK_ELEMENTS": nodes * (VOCAB + WIDTH)}
    return patch.multiple(factored, **{name: {"cuda": n} for name, n in limits.items()})  # type: ignore[return-value]


@pytest.fixture
def student() -> Student:
    return Student([9, 2, 6, 1, 7], [5, 1, 0, 2, 3])


def in_band(student: Student, target: LatticeBatch) -> Tensor:
    assert target.starts_BT is not None
    columns_BTS = band_columns(target.starts_BT, target.logp_BTSC.shape[2], 6)
    return student.factors.logits_at(columns_BTS)


def assert_same(student: Student, found: Tensor, expected: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    pairs = zip(student.gradients(found), student.gradients(expected), strict=True)
    for mine, other in pairs:
        torch.testing.assert_close(mine, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("nodes", [1, 10, 60, 10_000])
@pytest.mark.parametrize("top_k", [0, 2])
def test_over_the_whole_lattice(student: Student, top_k: int, nodes: int) -> None:
    target = student.target(top_k, None)
    expected = student.losses(student.factors.lattice_logits(), target, "lattice")
    with blocks_of(nodes):
        found = student.losses(student.factors, target, "lattice")
        assert_same(student, found, expected, 1e-11)


@pytest.mark.parametrize("nodes", [1, 10, 60, 10_000])
@pytest.mark.parametrize("top_k", [0, 2])
def test_in_the_band(student: Student, top_k: int, nodes: int) -> None:
    target = student.target(top_k, 3)
    expected = student.losses(in_band(student, target), target, "band")
    with blocks_of(nodes):
        found = student.losses(student.factors, target, "band")
        assert_same(student, found, expected, 1e-11)


@pytest.mark.parametrize("top_k", [0, 2])
def test_the_kl_in_a_band_and_the_rnnt_loss_over_all(student: Student, top_k: int) -> None:
    target = student.target(top_k, 3)
    expected = student.losses(student.factors.lattice_logits(), target, "lattice")
    with blocks_of(10):
        found = student.losses(student.factors, target, "lattice")
        assert_same(student, found, expected, 1e-11)


@pytest.mark.parametrize("nodes", ["lattice", "band"])
def test_the_kl_alone_needs_the_band_alone(student: Student, nodes: Nodes) -> None:
    target = student.target(1, 3)
    expected = lattice_kl(in_band(student, target), target, student.labels, 0, nodes="band")
    asked: list[int] = []

    def joint(decoder: Tensor, encoder: Tensor) -> Tensor:
        asked.append((decoder + encoder).shape[:3].numel())
        return torch.tanh(decoder + encoder) @ student.head

    factors = FactoredLogits(student.encoder, student.decoder, joint)
    found = lattice_kl(factors, target, student.labels, 0, nodes=nodes)
    torch.testing.assert_close(found, expected)
    assert asked == [1, target.logp_BTSC.shape[:3].numel()]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_band_of_all_columns_is_the_whole_lattice(dtype: torch.dtype) -> None:
    student = Student([60, 41], [20, 17], dtype)
    whole = student.target(1, None)
    band = replace(whole, starts_BT=torch.zeros(2, 60, dtype=torch.int64))
    expected = student.losses(student.factors.lattice_logits(), whole, "lattice")
    with blocks_of(200):
        found = student.losses(student.factors, band, "band")
        tolerance = 1e-5 if dtype == torch.float32 else 1e-12
        assert_same(student, found, expected, tolerance)


def test_gradcheck() -> None:
    student = Student([3, 2, 1], [2, 0, 1])
    target = student.target(1, 2)

    def band(encoder: Tensor, decoder: Tensor, head: Tensor) -> Tensor:
        factors = FactoredLogits(encoder, decoder, lambda d, e: torch.tanh(d + e) @ head)
        return student.losses(factors, target, "band")

    with blocks_of(3):
        assert torch.autograd.gradcheck(band, (student.encoder, student.decoder, student.head))


@given(
    sizes=st.lists(st.tuples(st.integers(1, 7), st.integers(0, 5)), min_size=1, max_size=5),
    nodes=st.integers(1, 80),
    width=st.one_of(st.none(), st.integers(2, 6)),
)
@settings(deadline=None, max_examples=25)
def test_any_blocks_of_any_batch(
    sizes: list[tuple[int, int]], nodes: int, width: int | None
) -> None:
    frames, lengths = (list(column) for column in zip(*sizes, strict=True))
    student = Student(frames, lengths)
    target = student.target(1, width)
    where: Nodes = "lattice" if width is None else "band"
    expected = student.losses(student.factors, target, where)
    with blocks_of(nodes):
        found = student.losses(student.factors, target, where)
        assert_same(student, found, expected, 1e-10)


def test_too_few_states_are_told(student: Student) -> None:
    target = student.target(1, 3)
    factors = replace(student.factors, decoder_BUJ=student.decoder[:, :4])
    for nodes in ("lattice", "band"):
        with pytest.raises(InputError, match="must have the same frames and labels"):
            student.losses(factors, target, nodes)  # type: ignore[arg-type]
