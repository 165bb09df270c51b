"""Alignment-level and one-best-path distillation against every alignment written out."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

import pytest
import torch
from loss_data import Case, gradient, random_case

from kdcache.lattice import BandRule
from kdcache.loss import alignment_kl, best_path_kl, collapse_lattice, lattice_kl

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from kdcache.batch import LatticeBatch

SIZES = ([4, 1, 3, 2], [2, 2, 0, 1])
"""Frames and labels, among them U = 0 and T = 1."""


def paths(frames: int, labels: int) -> Iterator[list[tuple[int, int, int]]]:
    """Every alignment as its arcs (t, u, 0 for blank or 1 for label); the last arc is a blank."""
    steps = frames - 1 + labels
    for emitting in combinations(range(steps), labels):
        t = u = 0
        arcs = []
        for step in range(steps):
            label = int(step in emitting)
            arcs.append((t, u, label))
            t, u = t + 1 - label, u + label
        yield [*arcs, (t, u, 0)]


def arcs_of(logits: Tensor, case: Case, row: int) -> Tensor:
    """(T, U+1, 2): log-probabilities of blank (class 0) and next label."""
    logp = logits[row].log_softmax(-1)
    labels = torch.cat([case.labels[row], torch.zeros(1, dtype=torch.long)])
    ids = labels[: logp.shape[1]].expand(logp.shape[0], -1)
    return torch.stack([logp[..., 0], logp.gather(-1, ids[..., None])[..., 0]], -1)


def scores(arcs: Tensor, found: list[list[tuple[int, int, int]]]) -> Tensor:
    return torch.stack([sum((arcs[arc] for arc in path), arcs.new_zeros(())) for path in found])


def by_hand(case: Case, student: Tensor, row: int, allowed: object = None) -> Tensor:
    """KL of the posteriors of all alignments, those off the teacher's band left out of its own."""
    every = list(paths(int(case.frames[row]), int(case.lengths[row])))
    inside = [p for p in every if allowed is None or {(t, u) for t, u, _ in p} <= allowed]  # type: ignore[operator]
    teacher = scores(arcs_of(case.teacher, case, row), inside).log_softmax(0)
    mine = arcs_of(student, case, row)
    of_student = scores(mine, inside) - scores(mine, every).logsumexp(0)
    return (teacher.exp() * (teacher - of_student)).sum()


def test_it_is_the_divergence_over_all_alignments() -> None:
    case = random_case(*SIZES)
    student = case.student.clone().requires_grad_()
    found = alignment_kl(student, case.target(), case.labels, 0, "none")
    expected = torch.stack([by_hand(case, student, row) for row in range(4)])
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(
        gradient(found, student), gradient(expected, student), rtol=1e-6, atol=1e-6
    )
    assert found[1:3].abs().max() < 1e-6  # one alignment alone is certain


def test_of_a_band_the_teacher_has_no_other_alignments() -> None:
    case = random_case([5, 4], [3, 1], seed=2)
    rule = BandRule(width=2)
    lengths = (case.frames, case.lengths)
    target = collapse_lattice(case.teacher, case.labels, *lengths, 0, 0, rule)
    assert target.starts_BT is not None
    found = alignment_kl(case.student, target, case.labels, 0, "none")
    for row in range(2):
        starts, width = target.starts_BT[row].tolist(), min(2, int(case.lengths[row]) + 1)
        allowed = {(t, u) for t, start in enumerate(starts) for u in range(start, start + width)}
        expected = by_hand(case, case.student, row, allowed)
        torch.testing.assert_close(found[row], expected, rtol=1e-5, atol=1e-5)
    # Within the band alone the student loses what it had elsewhere, and never gains.
    inside = alignment_kl(case.student, target, case.labels, 0, "none", nodes="lattice")
    confined = alignment_kl(_at_band(case, target), target, case.labels, 0, "none", nodes="band")
    assert (confined <= inside + 1e-6).all()
    assert (confined > -1e-6).all()


def _at_band(case: Case, target: LatticeBatch) -> Tensor:
    from kdcache.lattice.banded import at_band

    assert target.starts_BT is not None
    return at_band(case.student, target.starts_BT, target.logp_BTSC.shape[2])


def test_the_teacher_itself_has_nothing_to_learn() -> None:
    case = random_case(*SIZES, seed=5)
    teacher = case.teacher.clone().requires_grad_()
    found = alignment_kl(teacher, case.target(), case.labels, 0, "none")
    assert found.abs().max() < 1e-5
    assert gradient(found, teacher).abs().max() < 1e-6


def test_its_gradient_is_right() -> None:
    case = random_case([3, 2], [2, 1], vocab=4, seed=1)
    student = case.student.clone().requires_grad_()
    target = case.target()
    double = replace(target, logp_BTSC=target.logp_BTSC.double())
    for loss in (alignment_kl, best_path_kl):
        assert torch.autograd.gradcheck(
            lambda x, loss=loss: loss(x, double, case.labels, 0, "none"), student
        )


def test_padding_means_nothing() -> None:
    case = random_case(*SIZES, seed=3)
    target = case.target(1)
    for loss in (alignment_kl, best_path_kl):
        together = loss(case.student, target, case.labels, 0, "none")
        for row in range(4):
            frames, labels = int(case.frames[row]), int(case.lengths[row])
            one = Case(
                case.student[row : row + 1, :frames, : labels + 1],
                case.teacher[row : row + 1, :frames, : labels + 1],
                case.labels[row : row + 1, :labels],
                case.frames[row : row + 1],
                case.lengths[row : row + 1],
            )
            alone = loss(one.student, one.target(1), one.labels, 0, "none")
            torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("top_k", [0, 2])
def test_the_best_path_is_found_among_all(top_k: int) -> None:
    case = random_case(*SIZES, seed=4)
    target = case.target(top_k)
    student = case.student.clone().requires_grad_()
    found = best_path_kl(student, target, case.labels, 0, "none")
    expected = []
    for row in range(4):
        every = list(paths(int(case.frames[row]), int(case.lengths[row])))
        best = every[int(scores(arcs_of(case.teacher, case, row), every).argmax())]
        keep = torch.full_like(target.logp_BTSC, -torch.inf)
        for t, u, _ in best:
            keep[row, t, u] = target.logp_BTSC[row, t, u]
        only = replace(target, logp_BTSC=keep)
        expected.append(lattice_kl(student, only, case.labels, 0, "none")[row])
    torch.testing.assert_close(found, torch.stack(expected))
    whole = lattice_kl(student, target, case.labels, 0, "none")
    assert (found <= whole + 1e-6).all()


def test_an_utterance_without_an_alignment_is_passed_by() -> None:
    case = random_case([3, 3], [1, 1], seed=6)
    target = case.target()
    logp = target.logp_BTSC.clone()
    logp[0, :, :, 1] = -math.inf  # no label anywhere
    student = case.student.clone().requires_grad_()
    found = alignment_kl(student, replace(target, logp_BTSC=logp), case.labels, 0, "none")
    assert found[0] == 0
    assert found[1] > 0
    assert gradient(found, student)[0].abs().max() == 0


def test_a_frame_that_the_teacher_says_nothing_of_is_passed_by_a_blank() -> None:
    case = random_case([3], [1], seed=7)
    target = case.target()
    logp = target.logp_BTSC.clone()
    logp[:, 2] = -math.inf
    found = alignment_kl(case.student, replace(target, logp_BTSC=logp), case.labels, 0, "none")
    every = [p for p in paths(3, 1) if (2, 0, 1) not in p]
    teacher = arcs_of(case.teacher, case, 0).clone()
    teacher[2, :, 0] = 0.0
    mine = arcs_of(case.student, case, 0)
    q = scores(teacher, every).log_softmax(0)
    p = scores(mine, every) - scores(mine, list(paths(3, 1))).logsumexp(0)
    torch.testing.assert_close(found[0], (q.exp() * (q - p)).sum(), rtol=1e-5, atol=1e-5)
