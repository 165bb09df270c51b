"""Lattices on other frames: what happens first at a column stays what it was."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loss_data import Case, gradient, random_case

from kdcache.batch import LatticeBatch
from kdcache.errors import SpecMismatchError
from kdcache.lattice import BandRule, rnnt_loss
from kdcache.lattice.lengths import node_mask
from kdcache.loss import (
    FrameRatio,
    align_lattice,
    collapse_lattice,
    lattice_kl,
    merge_frames,
    split_frames,
    transducer_kd_loss,
)

if TYPE_CHECKING:
    from torch import Tensor


def real(target: LatticeBatch) -> Tensor:
    return node_mask(target.frames_B, target.labels_B, *target.logp_BTSC.shape[1:3])


def first_event(target: LatticeBatch, row: int, u: int, frames: range) -> list[float]:
    """By hand: what happens first at column u from the first of ``frames`` on."""
    still, label, rest = 1.0, 0.0, 0.0
    for t in frames:
        q = target.logp_BTSC[row, t, u].exp()
        label += still * float(q[1])
        rest += still * float(q[2:].sum())
        still *= float(q[0])
    return [still, label, rest]


@pytest.mark.parametrize("top_k", [0, 2])
@pytest.mark.parametrize("factor", [2, 3])
def test_merged_is_what_happens_first(factor: int, top_k: int) -> None:
    target = random_case([7, 4, 1, 6], [3, 2, 1, 0]).target(top_k)
    merged = merge_frames(target, factor)
    assert merged.frames_B.tolist() == [-(-t // factor) for t in (7, 4, 1, 6)]
    assert merged.ids_BTSK.shape == (*merged.logp_BTSC.shape[:3], 0)
    for row, frames in enumerate(target.frames_B.tolist()):
        for u in range(int(target.labels_B[row]) + 1):
            for group in range(-(-frames // factor)):
                inside = range(group * factor, min((group + 1) * factor, frames))
                expected = first_event(target, row, u, inside)
                found = merged.logp_BTSC[row, group, u].exp().tolist()
                assert found == pytest.approx(expected, abs=1e-7)


@given(
    frames=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    labels=st.integers(0, 3),
    factor=st.integers(2, 4),
    seed=st.integers(0, 99),
)
def test_both_sum_to_one_and_merging_undoes_splitting(
    frames: list[int], labels: int, factor: int, seed: int
) -> None:
    target = random_case(frames, [labels] * len(frames), seed=seed).target()
    split, merged = split_frames(target, factor), merge_frames(target, factor)
    for one in (split, merged):
        total = one.logp_BTSC.logsumexp(-1)[real(one)]
        torch.testing.assert_close(total, torch.zeros_like(total), rtol=0, atol=1e-6)
    again = merge_frames(split, factor)
    assert torch.equal(again.frames_B, target.frames_B)
    torch.testing.assert_close(
        again.logp_BTSC[real(target)], target.logp_BTSC[real(target)], rtol=1e-5, atol=1e-5
    )


def test_the_groups_of_a_first_label_keep_their_probability() -> None:
    """P(the first label is emitted in group g) is the teacher's, whatever follows."""
    target = random_case([8], [2]).target()
    merged, q = merge_frames(target, 2), target.logp_BTSC[0, :, 0].exp()
    reach = torch.cat([torch.ones(1), q[:-1, 0].cumprod(0)])
    expected = (reach * q[:, 1]).view(4, 2).sum(1)
    m = merged.logp_BTSC[0, :, 0].exp()
    found = torch.cat([torch.ones(1), m[:-1, 0].cumprod(0)]) * m[:, 1]
    torch.testing.assert_close(found, expected)


def test_certain_and_impossible_blanks_can_be_split() -> None:
    inf = torch.inf
    logp = torch.tensor([[0.0, -inf, -inf], [-inf, -0.5, -0.9327521], [-1e-7, -16.2, -17.5]])
    target = LatticeBatch(
        logp.view(1, 3, 1, 3), torch.empty(1, 3, 1, 0, dtype=torch.int64),
        torch.tensor([3]), torch.tensor([0]),
    )  # fmt: skip
    split = split_frames(target, 2).logp_BTSC[0, :, 0]
    assert not split.isnan().any()
    assert split[0].tolist() == split[1].tolist() == [0.0, -inf, -inf]
    assert split[2].tolist() == pytest.approx([-inf, -0.5, -0.9327521])
    assert split[4].tolist() == pytest.approx([-5e-8, -16.2 - 0.693147, -17.5 - 0.693147])


def test_a_student_of_the_split_teacher_learns_nothing_more() -> None:
    """Zero at the student that has the split classes; and not at another."""
    case = random_case([3, 2], [2, 1], vocab=3)
    target = align_lattice(case.target(), torch.tensor([6, 4]), FrameRatio(1, 2))
    # With blank 0 and three classes the collapsed classes determine all logits.
    q = target.logp_BTSC
    logits = torch.full((2, 6, 3, 3), -torch.inf)
    for row in range(2):
        for u in range(3):
            label = int(case.labels[row, u]) if u < int(target.labels_B[row]) else 1
            logits[row, :, u, 0] = q[row, :, u, 0]
            if u < int(target.labels_B[row]):
                logits[row, :, u, label] = q[row, :, u, 1]
                logits[row, :, u, 3 - label] = q[row, :, u, 2]
            else:
                logits[row, :, u, 1:] = q[row, :, u, 2:3] - torch.log(torch.tensor(2.0))
    same = lattice_kl(logits, target, case.labels, 0, "none")
    torch.testing.assert_close(same, torch.zeros(2), rtol=0, atol=1e-5)
    other = lattice_kl(torch.zeros_like(logits), target, case.labels, 0, "none")
    assert (other > 0.1).all()


@pytest.mark.parametrize("shift", [0, 1, 3, -2])
def test_a_shift_compares_the_frames_that_it_says(shift: int) -> None:
    case = random_case([6, 3, 5], [2, 1, 0])
    target, frames = case.target(1), case.frames + torch.tensor([0, 1, -1])
    student = random_case([6, 4, 5], [2, 1, 0], seed=5).student.requires_grad_()
    found = lattice_kl(student, align_lattice(target, frames, shift=shift), case.labels, 0, "none")
    for row in range(3):
        pairs = [
            (s, s - shift) for s in range(int(frames[row])) if 0 <= s - shift < case.frames[row]
        ]
        expected = sum(one_frame(student, target, case, row, s, t) for s, t in pairs)
        assert found[row].item() == pytest.approx(expected, rel=1e-5, abs=1e-6)
    used = gradient(found, student).abs().sum((-1, -2)) > 0
    first, last = max(shift, 0), min(int(frames[0]), 6 + shift)
    assert used[0, :6].tolist() == [first <= s < last for s in range(6)]


def one_frame(student: Tensor, target: LatticeBatch, case: Case, row: int, s: int, t: int) -> float:
    single = LatticeBatch(
        target.logp_BTSC[row : row + 1, t : t + 1],
        target.ids_BTSK[row : row + 1, t : t + 1],
        torch.tensor([1]),
        target.labels_B[row : row + 1],
    )
    logits = student[row : row + 1, s : s + 1].detach()
    return lattice_kl(logits, single, case.labels[row : row + 1], 0).item()


def test_the_rnnt_loss_beside_it_is_over_all_frames() -> None:
    case = random_case([6, 3], [2, 1])
    aligned = align_lattice(case.target(1), torch.tensor([6, 4]), shift=2)
    assert (aligned.ids_BTSK[:, :2] == -1).all()
    assert (aligned.ids_BTSK[0, 2:] >= 0).any()
    student = random_case([6, 4], [2, 1], seed=5).student
    found = transducer_kd_loss(student, aligned, case.labels, 0, 1.0, "none")
    expected = rnnt_loss(student, case.labels, torch.tensor([6, 4]), case.lengths, 0, "none")
    torch.testing.assert_close(found.rnnt, expected)
    assert found.kl.isfinite().all()


def test_equal_frames_are_left_alone() -> None:
    target = random_case([4, 2], [2, 1]).target()
    assert align_lattice(target, torch.tensor([4, 2])) is target


def banded() -> LatticeBatch:
    case = random_case([4, 3], [5, 2])
    lengths = (case.frames, case.lengths)
    return collapse_lattice(case.teacher, case.labels, *lengths, 0, 1, BandRule(width=3))


def test_a_band_can_be_split_and_nothing_else() -> None:
    target = banded()
    assert target.starts_BT is not None
    split = align_lattice(target, torch.tensor([8, 6]), FrameRatio(1, 2))
    student = random_case([8, 6], [5, 2], seed=5)
    found = lattice_kl(student.student, split, student.labels, 0, "none")
    assert found.isfinite().all()
    with pytest.raises(SpecMismatchError, match="a band, which cannot be merged"):
        align_lattice(target, torch.tensor([2, 2]), FrameRatio(2, 1))
    with pytest.raises(SpecMismatchError, match="a band, which cannot be shifted"):
        align_lattice(target, torch.tensor([4, 3]), shift=1)
    with pytest.raises(SpecMismatchError, match="'b': the teacher has 3 frames and the student 4; "
                                                "expected 1/1 exactly"):  # fmt: skip
        align_lattice(target, torch.tensor([4, 4]), ids=["a", "b"])


def test_other_lengths_are_refused_by_name() -> None:
    target = random_case([8, 4], [2, 1]).target()
    with pytest.raises(SpecMismatchError, match="'b': the teacher has 4 frames and the student 4"):
        align_lattice(target, torch.tensor([4, 4]), FrameRatio(2, 1), ids=["a", "b"])


def test_merging_keeps_an_impossible_class_impossible() -> None:
    target = random_case([4], [1]).target()
    logp = target.logp_BTSC.clone()
    logp[0, :, 0] = torch.tensor([0.0, -torch.inf, -torch.inf])
    merged = merge_frames(replace(target, logp_BTSC=logp), 2)
    assert merged.logp_BTSC[0, :, 0].tolist() == [[0.0, -torch.inf, -torch.inf]] * 2
