"""Factors of logits: the classes of the logits that they make, however they are evaluated."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from kdcache.errors import InputError
from kdcache.lattice import (
    FactoredLogits,
    class_log_probs,
    factored,
    node_class_log_probs,
    node_ids,
    rnnt_loss,
    rnnt_loss_banded,
)
from kdcache.lattice.banded import at_band, band_columns
from kdcache.lattice.joint_blocks import share_blocks

if TYPE_CHECKING:
    from collections.abc import Callable

WIDTH, VOCAB = 3, 6
SIZES = ([5, 1, 4, 2, 4], [3, 2, 0, 3, 1])


@dataclass(frozen=True)
class Student:
    """Factors, labels and lengths of a batch; blank is class 0."""

    encoder: Tensor
    decoder: Tensor
    head: torch.nn.Module
    labels: Tensor
    frames: Tensor
    lengths: Tensor

    @property
    def factors(self) -> FactoredLogits:
        return FactoredLogits(self.encoder, self.decoder, self.joint)

    def joint(self, decoder: Tensor, encoder: Tensor) -> Tensor:
        output: Tensor = self.head(torch.tanh(decoder + encoder))
        return output

    @property
    def leaves(self) -> list[Tensor]:
        return [self.encoder, self.decoder, *self.head.parameters()]

    @property
    def ids(self) -> Tensor:
        """Blank, label, and class 5, where the label is not."""
        shape = (*self.encoder.shape[:2], self.decoder.shape[1], VOCAB)
        kept = node_ids(self.labels, 0, torch.Size(shape), self.lengths)
        return torch.cat([kept, torch.full_like(kept[..., :1], 5)], -1)

    def starts(self) -> Tensor:
        """Of bands two columns wide, where there are two: up in the first frames."""
        t_BT = torch.arange(self.encoder.shape[1]).expand(len(self.frames), -1)
        return t_BT.minimum((self.lengths - 1).clamp(min=0)[:, None])


def make_student(
    frames: list[int], lengths: list[int], dtype: torch.dtype = torch.float64
) -> Student:
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    batch, columns = len(frames), max(lengths) + 1
    return Student(
        torch.randn(batch, max(frames), WIDTH, generator=generator, dtype=dtype).requires_grad_(),
        torch.randn(batch, columns, WIDTH, generator=generator, dtype=dtype).requires_grad_(),
        torch.nn.Linear(WIDTH, VOCAB, dtype=dtype),
        torch.randint(1, VOCAB - 1, (batch, columns - 1), generator=generator),
        torch.tensor(frames),
        torch.tensor(lengths),
    )


@pytest.fixture
def student() -> Student:
    return make_student(*SIZES)


@pytest.fixture(params=[1, 7, 12, 30, 1000])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Nothing is held, and blocks have so many nodes."""
    nodes: int = request.param
    force_blocks(monkeypatch, nodes)
    return nodes


def force_blocks(monkeypatch: pytest.MonkeyPatch, nodes: int) -> None:
    monkeypatch.setattr(factored, "HELD_ELEMENTS", {"cuda": 0})
    monkeypatch.setattr(factored, "BLOCK_ELEMENTS", {"cuda": nodes * (WIDTH + VOCAB)})


def gradients(value: Tensor, leaves: list[Tensor]) -> tuple[Tensor, ...]:
    """Of a sum in which every place weighs something else."""
    weights = torch.linspace(1, 2, value.numel(), dtype=value.dtype).view(value.shape)
    return torch.autograd.grad((value * weights).sum(), leaves, retain_graph=True)


def assert_same(found: Tensor, expected: Tensor, leaves: list[Tensor]) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    parts = zip(gradients(found, leaves), gradients(expected, leaves), strict=True)
    for mine, other in parts:
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-12)


def test_blocks_give_the_classes_of_the_lattice(student: Student, blocks: int) -> None:
    lengths = (student.frames, student.lengths)
    found = node_class_log_probs(student.factors, student.ids, *lengths)
    expected = class_log_probs(student.factors.lattice_logits(), student.ids, *lengths)
    assert_same(found, expected, student.leaves)


def test_what_is_small_is_the_same_to_the_last_bit(student: Student) -> None:
    lengths = (student.frames, student.lengths)
    found = node_class_log_probs(student.factors, student.ids, *lengths)
    expected = class_log_probs(student.factors.lattice_logits(), student.ids, *lengths)
    assert torch.equal(found, expected)
    parts = zip(gradients(found, student.leaves), gradients(expected, student.leaves), strict=True)
    assert all(torch.equal(*part) for part in parts)


def test_the_rnnt_loss_of_blocks_is_that_of_logits(student: Student, blocks: int) -> None:
    rest = (student.labels, student.frames, student.lengths, 0, "none")
    found = rnnt_loss(student.factors, *rest)  # type: ignore[arg-type]
    expected = rnnt_loss(student.factors.lattice_logits(), *rest)  # type: ignore[arg-type]
    assert_same(found, expected, student.leaves)


def test_the_rnnt_loss_in_a_band_is_that_of_logits(student: Student, blocks: int) -> None:
    student = replace(student, frames=torch.tensor([5, 3, 4, 3, 4]))
    starts = student.starts()
    rest = (starts, student.labels, student.frames, student.lengths, 0, "none")
    found = rnnt_loss_banded(student.factors, *rest)  # type: ignore[arg-type]
    in_band = at_band(student.factors.lattice_logits(), starts, 2)
    expected = rnnt_loss_banded(in_band, *rest)  # type: ignore[arg-type]
    assert_same(found, expected, student.leaves)


def test_logits_at_columns_are_the_lattices(student: Student) -> None:
    columns = band_columns(student.starts(), 2, 4)
    found = student.factors.logits_at(columns)
    expected = at_band(student.factors.lattice_logits(), student.starts(), 2)
    assert_same(found, expected, student.leaves)


def test_gradcheck_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    force_blocks(monkeypatch, 3)
    student = make_student([3, 2, 1], [2, 0, 1])
    starts = torch.tensor([[0, 0, 1], [0, 0, 0], [0, 0, 0]])
    weight, bias = (p.detach().clone().requires_grad_() for p in student.head.parameters())

    def joint_of(weight: Tensor, bias: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda decoder, encoder: torch.tanh(decoder + encoder) @ weight.T + bias

    def whole(*leaves: Tensor) -> Tensor:
        logits = FactoredLogits(*leaves[:2], joint_of(*leaves[2:]))
        return rnnt_loss(logits, student.labels, student.frames, student.lengths, 0, "none")

    def band(*leaves: Tensor) -> Tensor:
        logits = FactoredLogits(*leaves[:2], joint_of(*leaves[2:]))
        rest = (starts, student.labels, student.frames, student.lengths, 0)
        return rnnt_loss_banded(logits, *rest, reduction="none")

    leaves = (student.encoder, student.decoder, weight, bias)
    assert torch.autograd.gradcheck(whole, leaves)
    assert torch.autograd.gradcheck(band, leaves)


class Largest:
    """A joint network that notes the most nodes that it was asked for at once."""

    def __init__(self, student: Student) -> None:
        self.student, self.most, self.times = student, 0, 0

    def __call__(self, decoder: Tensor, encoder: Tensor) -> Tensor:
        logits = self.student.joint(decoder, encoder)
        self.most = max(self.most, logits.shape[:3].numel())
        self.times += 1
        return logits


def test_no_more_than_a_block_is_multiplied_out(student: Student, blocks: int) -> None:
    joint = Largest(student)
    factors = FactoredLogits(student.encoder, student.decoder, joint)
    found = node_class_log_probs(factors, student.ids, student.frames, student.lengths)
    # A frame of the widest utterance is the least that there is.
    assert joint.most <= max(blocks, 4)
    forward = joint.times - 1
    found.sum().backward()  # type: ignore[no-untyped-call]
    assert joint.times == 1 + 2 * forward
    assert joint.most <= max(blocks, 4)


def test_without_gradients_each_block_is_evaluated_once(
    student: Student, monkeypatch: pytest.MonkeyPatch
) -> None:
    force_blocks(monkeypatch, 12)
    joint = Largest(student)
    factors = FactoredLogits(student.encoder, student.decoder, joint)
    lengths = (student.frames, student.lengths)
    with torch.no_grad():
        found = node_class_log_probs(factors, student.ids, *lengths)
        expected = class_log_probs(student.factors.lattice_logits(), student.ids, *lengths)
    assert not found.requires_grad
    torch.testing.assert_close(found, expected)
    # One node to be sized up; 5, 1, 4, 2 and 4 frames of 4, 3, 1, 4 and 2 columns.
    assert joint.times == 1 + 2 + 1 + 1 + 1 + 1


def test_no_node_of_padding_is_evaluated_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    force_blocks(monkeypatch, 4)
    student = make_student([6, 2], [3, 1])
    spoilt = student.encoder.detach().clone()
    spoilt[1, 2:] = float("nan")
    student = replace(student, encoder=spoilt.requires_grad_())
    found = node_class_log_probs(student.factors, student.ids, student.frames, student.lengths)
    for grad in gradients(found, student.leaves):
        assert grad.isfinite().all()


def test_dropout_is_the_same_when_a_block_is_evaluated_again(
    student: Student, monkeypatch: pytest.MonkeyPatch
) -> None:
    force_blocks(monkeypatch, 12)
    seen: list[Tensor] = []

    def joint(decoder: Tensor, encoder: Tensor) -> Tensor:
        both = torch.nn.functional.dropout(torch.tanh(decoder + encoder), 0.5)
        seen.append((both == 0).detach())
        output: Tensor = student.head(both)
        return output

    factors = FactoredLogits(student.encoder, student.decoder, joint)
    found = node_class_log_probs(factors, student.ids, student.frames, student.lengths)
    forward = seen[1:]
    found.sum().backward()  # type: ignore[no-untyped-call]
    again = seen[1 + len(forward) :]
    # Backwards through the blocks, in whatever order.
    assert len(again) == len(forward)
    assert all(any(torch.equal(a, b) for b in forward) for a in again)


def test_parameters_get_their_gradients_where_they_are(
    student: Student, monkeypatch: pytest.MonkeyPatch
) -> None:
    force_blocks(monkeypatch, 7)
    found = node_class_log_probs(student.factors, student.ids, student.frames, student.lengths)
    expected = gradients(found, student.leaves)
    weights = torch.linspace(1, 2, found.numel(), dtype=found.dtype).view(found.shape)
    (found * weights).sum().backward()  # type: ignore[no-untyped-call]
    for leaf, grad in zip(student.leaves, expected, strict=True):
        torch.testing.assert_close(leaf.grad, grad)


def test_autocast_is_the_same_when_a_block_is_evaluated_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    student = make_student(*SIZES, dtype=torch.float32)
    rest = (student.labels, student.frames, student.lengths, 0, "none")
    exact = rnnt_loss(student.factors, *rest)  # type: ignore[arg-type]
    with torch.autocast("cpu", torch.bfloat16):
        held = rnnt_loss(student.factors, *rest)  # type: ignore[arg-type]
        force_blocks(monkeypatch, 7)
        found = rnnt_loss(student.factors, *rest)  # type: ignore[arg-type]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, held, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found, exact, rtol=2e-2, atol=2e-2)
    assert not torch.equal(found, exact)
    parts = zip(gradients(found, student.leaves), gradients(held, student.leaves), strict=True)
    for mine, other in parts:
        torch.testing.assert_close(mine, other, rtol=2e-2, atol=2e-2)


def test_nan_reaches_its_own_utterance_only(student: Student, blocks: int) -> None:
    spoilt = student.encoder.detach().clone()
    spoilt[2, 1, 0] = float("nan")
    student = replace(student, encoder=spoilt)
    rest = (student.labels, student.frames, student.lengths, 0)
    loss = rnnt_loss(student.factors, *rest, reduction="none")
    assert loss.isnan().tolist() == [False, False, True, False, False]


@pytest.mark.parametrize("nodes", [1, 5, 8, 20, 40, 1000])
def test_runs_share_a_block_and_are_whole(nodes: int) -> None:
    extents = [(5, 4), (1, 3), (4, 1), (2, 4), (4, 2), (1, 1)]
    runs = share_blocks(extents, nodes)
    assert [row for run in runs for row in range(run.start, run.stop)] == list(range(6))
    for run in runs:
        frames, columns = (max(sizes) for sizes in zip(*extents[run], strict=True))
        room = len(extents[run]) * frames * columns
        assert room <= nodes or run.stop - run.start == 1
    assert len(share_blocks(extents, 6 * 5 * 4)) == 1


def test_bad_input_is_one_sentence(student: Student) -> None:
    with pytest.raises(InputError, match="inputs have shapes .* expected .batch, frames, width."):
        FactoredLogits(student.encoder, student.decoder[:2], student.joint)
    with pytest.raises(InputError, match=r"gives torch\.float64 of shape .1, 1, 3. for one node"):
        FactoredLogits(student.encoder, student.decoder, lambda d, e: (d + e)[0])
    short = FactoredLogits(student.encoder[:, :4], student.decoder, student.joint)
    with pytest.raises(InputError, match="cannot hold the nodes"):
        node_class_log_probs(short, student.ids, student.frames, student.lengths)
    narrow = FactoredLogits(student.encoder, student.decoder[:, :3], student.joint)
    columns = band_columns(student.starts(), 2, 4)
    with pytest.raises(InputError, match="reaches column 3, and .* has 3 columns"):
        node_class_log_probs(narrow, student.ids[:, :, :2], columns_BTS=columns)
