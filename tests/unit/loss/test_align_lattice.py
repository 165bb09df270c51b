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
from kdcache.lattice.banded import parse_band
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


def banded(frames: list[int], lengths: list[int], width: int, seed: int = 0) -> LatticeBatch:
    case = random_case(frames, lengths, seed=seed)
    rule, own = BandRule(width=width), (case.frames, case.lengths)
    return collapse_lattice(case.teacher, case.labels, *own, 0, 1, rule)


def test_a_band_can_be_split_and_cannot_be_merged() -> None:
    target = banded([4, 3], [5, 2], 3)
    assert target.starts_BT is not None
    split = align_lattice(target, torch.tensor([8, 6]), FrameRatio(1, 2))
    student = random_case([8, 6], [5, 2], seed=5)
    found = lattice_kl(student.student, split, student.labels, 0, "none")
    assert found.isfinite().all()
    with pytest.raises(SpecMismatchError, match="a band, which cannot be merged"):
        align_lattice(target, torch.tensor([2, 2]), FrameRatio(2, 1))


@given(
    frames=st.lists(st.integers(3, 9), min_size=1, max_size=3),
    labels=st.integers(0, 6),
    width=st.integers(2, 4),
    shift=st.integers(-3, 3),
    rounding=st.integers(-1, 1),
    seed=st.integers(0, 99),
)
def test_a_band_that_is_moved_is_one_and_counts_where_it_was(
    frames: list[int], labels: int, width: int, shift: int, rounding: int, seed: int
) -> None:
    lengths = [min(labels, (t - 2) * (width - 1)) for t in frames]
    target = banded(frames, lengths, width, seed)
    if target.starts_BT is None:
        return
    wanted = torch.tensor(frames) + rounding
    moved = align_lattice(target, wanted, shift=shift)
    assert moved.starts_BT is not None
    widths = parse_band(moved.starts_BT, moved.logp_BTSC.shape, wanted, moved.labels_B)
    before = parse_band(target.starts_BT, target.logp_BTSC.shape, target.frames_B, target.labels_B)
    assert torch.equal(widths, before)
    for row, length in enumerate(wanted.tolist()):
        for s in range(length):
            t, there = s - shift, moved.logp_BTSC[row, s].exp().sum() > 0
            same = 0 <= t < frames[row] and (moved.starts_BT[row, s] == target.starts_BT[row, t])
            assert bool(there) == bool(same)
            if there:
                assert torch.equal(moved.logp_BTSC[row, s], target.logp_BTSC[row, t])


def test_a_moved_band_is_the_moved_lattice_at_its_nodes() -> None:
    """Where all windows could stay, the divergence is that of frames shifted one by one."""
    target, case = banded([9, 7], [5, 3], 4), random_case([9, 7], [5, 3])
    moved = align_lattice(target, torch.tensor([9, 7]), shift=1)
    assert moved.starts_BT is not None
    assert target.starts_BT is not None
    student = random_case([9, 7], [5, 3], seed=5).student.requires_grad_()
    found = transducer_kd_loss(student, moved, case.labels, 0, 1.0, "none")
    own = (torch.tensor([9, 7]), case.lengths)
    torch.testing.assert_close(found.rnnt, rnnt_loss(student, case.labels, *own, 0, "none"))
    # The same frames by hand: the student's frame s in the windows of the teacher's s − 1.
    late = student[:, 1:].detach()
    for row, frames in enumerate((9, 7)):
        total = 0.0
        for s in range(1, frames):
            if moved.starts_BT[row, s] == target.starts_BT[row, s - 1]:
                total += in_window(late[row, s - 1], target, case, row, s - 1)
        assert found.kl[row].item() == pytest.approx(total, rel=1e-5)


def in_window(student_UV: Tensor, target: LatticeBatch, case: Case, row: int, t: int) -> float:
    """By hand: the divergence at the nodes of one frame's window."""
    assert target.starts_BT is not None
    start, last = int(target.starts_BT[row, t]), int(target.labels_B[row])
    width = last + 1 - int(target.starts_BT[row, int(target.frames_B[row]) - 1])
    total = 0.0
    for s in range(width):
        u, p_V = start + s, student_UV[start + s].softmax(-1).double()
        kept = [0] + ([int(case.labels[row, u])] if u < last else [])
        slots = [0] + ([1] if u < last else [])
        more = int(target.ids_BTSK[row, t, s, 0])
        if more >= 0:
            kept, slots = [*kept, more], [*slots, 2]
        p = torch.stack([*p_V[kept], 1 - p_V[kept].sum()])
        q = target.logp_BTSC[row, t, s, [*slots, 3]].double().exp()
        total += float((q * (q / p).log()).where(q > 0, 0.0).sum())
    return total


def test_a_band_that_does_not_get_there_is_refused_by_name() -> None:
    target = banded([6, 4], [5, 3], 2)
    assert align_lattice(target, torch.tensor([6, 4]), shift=0) is target
    message = (
        "'b': a band of 2 columns does not get from the first of 3 labels to the last in .* 2 "
    )
    with pytest.raises(SpecMismatchError, match=message):
        align_lattice(target, torch.tensor([6, 2]), ids=["a", "b"])


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
