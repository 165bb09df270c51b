"""The penalty on certain nodes, against each node written out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch
from loss_data import Case, gradient, random_case

from kdcache.lattice import FactoredLogits, rnnt_loss
from kdcache.loss import confidence_penalty
from kdcache.loss.classes import student_classes
from kdcache.loss.confidence import confidence_at_nodes, rnnt_and_confidence

if TYPE_CHECKING:
    from torch import Tensor

SIZES = ([4, 1, 3, 2], [2, 2, 0, 1])
"""Frames and labels, among them U = 0 and T = 1."""


def by_hand(case: Case, student: Tensor, row: int) -> Tensor:
    """Node by node from the posterior of all classes."""
    frames, labels = int(case.frames[row]), int(case.lengths[row])
    total = student.new_zeros(())
    for t in range(frames):
        for u in range(labels + 1):
            p = student[row, t, u].softmax(-1)
            kept = [p[0]] if u == labels else [p[0], p[case.labels[row, u]]]
            classes = torch.stack([*kept, 1 - sum(kept)])
            total = total + math.log(len(classes)) + (classes * classes.log()).sum()
    return total


def arguments(case: Case) -> tuple[Tensor, Tensor, Tensor, int]:
    return case.labels, case.frames, case.lengths, 0


def test_it_is_the_sum_over_nodes() -> None:
    case = random_case(*SIZES)
    student = case.student.clone().requires_grad_()
    found = confidence_penalty(student, *arguments(case), "none")
    expected = torch.stack([by_hand(case, student, row) for row in range(4)])
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient(found, student), gradient(expected, student))


def test_knowing_nothing_costs_nothing() -> None:
    """Blank and label with a third each, the other four classes with a third together."""
    case = random_case([3], [1])
    label = int(case.labels[0, 0])
    even = torch.full((1, 3, 2, 6), 1 / 12, dtype=torch.float64)
    even[..., 0, [0, label]] = 1 / 3
    even[..., 1, :] = 0.1
    even[..., 1, 0] = 0.5
    logits = even.log().requires_grad_()
    found = confidence_penalty(logits, *arguments(case), "sum")
    assert abs(float(found.detach())) < 1e-12
    assert gradient(found, logits).abs().max() < 1e-12


def test_certainty_costs_the_most_and_is_finite() -> None:
    case = random_case([3], [1], dtype=torch.float32)
    certain = torch.full((1, 3, 2, 6), -1e4)
    certain[..., 0] = 1e4
    logits = certain.requires_grad_()
    found = confidence_penalty(logits, *arguments(case), "sum")
    assert float(found.detach()) == pytest.approx(3 * math.log(3) + 3 * math.log(2))
    assert gradient(found, logits).isfinite().all()


def test_its_gradient_is_right() -> None:
    case = random_case([3, 2], [2, 1], vocab=4, seed=1)
    student = case.student.clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: confidence_penalty(x, *arguments(case), "none"), student
    )


def test_padding_means_nothing() -> None:
    case = random_case([4, 2], [3, 1], seed=3)
    padded = case.student.clone()
    padded[1, 2:] = torch.nan
    padded[1, :, 2:] = torch.nan
    student = padded.requires_grad_()
    found = confidence_penalty(student, *arguments(case), "none")
    torch.testing.assert_close(found, confidence_penalty(case.student, *arguments(case), "none"))
    grad = gradient(found, student)
    assert not grad[1, 2:].any()
    assert not grad[1, :, 2:].any()


def test_nan_stays_with_its_utterance() -> None:
    case = random_case([4, 2], [3, 1])
    case.student[0, 0, 0, 0] = torch.nan
    found = confidence_penalty(case.student, *arguments(case), "none")
    assert found.isnan().tolist() == [True, False]


def test_of_factors_and_beside_the_rnnt_loss_it_is_the_same() -> None:
    generator = torch.Generator().manual_seed(0)
    encoder = torch.randn(2, 4, 3, generator=generator, dtype=torch.float64)
    decoder = torch.randn(2, 3, 3, generator=generator, dtype=torch.float64)
    head = torch.randn(3, 6, generator=generator, dtype=torch.float64)
    factors = FactoredLogits(encoder, decoder, lambda d, e: torch.tanh(d + e) @ head)
    case = random_case([4, 3], [2, 1])
    rnnt_B, penalty_B = rnnt_and_confidence(factors, *arguments(case))
    logits = factors.lattice_logits()
    torch.testing.assert_close(penalty_B, confidence_penalty(logits, *arguments(case), "none"))
    torch.testing.assert_close(rnnt_B, rnnt_loss(logits, *arguments(case), "none"))


def test_more_classes_of_a_target_count_as_rest() -> None:
    case = random_case(*SIZES, seed=4)
    logp_BTSC = student_classes(case.student, case.target(top_k=2), case.labels, 0)
    assert logp_BTSC.shape[-1] == 5
    found = confidence_at_nodes(logp_BTSC, case.frames, case.lengths + 1)
    torch.testing.assert_close(found, confidence_penalty(case.student, *arguments(case), "none"))


def test_it_is_divided_as_the_lattices_divergence_is() -> None:
    case = random_case(*SIZES)
    plain, labels, nodes = (
        confidence_penalty(case.student, *arguments(case), "none", normalise)
        for normalise in ("none", "labels", "nodes")
    )
    torch.testing.assert_close(labels, plain / case.lengths.clamp(min=1))
    torch.testing.assert_close(nodes, plain / (case.frames * (case.lengths + 1)))
