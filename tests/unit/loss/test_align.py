"""Frames of another rate or timing, against sums that are written out frame by frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loss_data import gradient
from torch import Tensor

from kdcache.batch import PosteriorBatch, TailTable, VectorBatch
from kdcache.errors import ConfigError, SpecMismatchError
from kdcache.loss import (
    FrameRatio,
    Pairs,
    aligned_codebook_cross_entropy,
    aligned_loss,
    aligned_posterior_kl,
    aligned_vector_mse,
    check_frames,
    parse_ratio,
    posterior_kl,
    ratio_of_shifts,
    vector_mse,
)

if TYPE_CHECKING:
    from kdcache.loss import Group

V = 5


def teacher_of(lengths: list[int], seed: int = 2, k: int = 2) -> PosteriorBatch:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(len(lengths), max(lengths), V, generator=generator).double()
    q, ids = logits.softmax(-1).sort(-1, descending=True)
    logp = torch.cat([q[..., :k], q[..., k:].sum(-1, keepdim=True)], -1).log()
    return PosteriorBatch(logp, ids[..., :k], torch.tensor(lengths))


def student_of(lengths: list[int], seed: int = 1, width: int = V) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(len(lengths), max(lengths), width, generator=generator).double()


def partners(s: int, ratio: FrameRatio, shift: int, group: Group) -> list[int]:
    """Teacher frames that student frame s is compared with, wherever they are."""
    if ratio.student > 1:
        return [(s - shift) // ratio.student]
    first = (s - shift) * ratio.teacher
    return [first] if group == "pick" else list(range(first, first + ratio.teacher))


def frame_kl(logits_V: Tensor, target: PosteriorBatch, row: int, t: int) -> float:
    p = logits_V.softmax(-1)
    kept = p[target.ids_BNK[row, t]]
    p = torch.cat([kept, (1 - kept.sum())[None]])
    q = target.logp_BNC[row, t].exp()
    return float((q * (q / p).log()).sum())


def frame_error(values_D: Tensor, target: VectorBatch, row: int, t: int) -> float:
    return float(((values_D - target.values_BTD[row, t]) ** 2).mean())


def frame_entropy(logits_QE: Tensor, target: VectorBatch, row: int, t: int) -> float:
    assert target.codes_BTQ is not None
    codes_Q = target.codes_BTQ[row, t]
    return -float(logits_QE.log_softmax(-1).gather(-1, codes_Q[:, None]).sum())


def written_out(
    of_frame: object,
    student: Tensor,
    frames: list[int],
    target: PosteriorBatch | VectorBatch,
    ratio: FrameRatio,
    shift: int,
    group: Group,
) -> list[tuple[float, float]]:
    """Of each utterance: what its frames add up to, and how many of them count."""
    found = []
    for row, (length, there) in enumerate(zip(frames, target.lengths_B.tolist(), strict=True)):
        total, count = 0.0, 0.0
        for s in range(length):
            wanted = partners(s, ratio, shift, group)
            for t in wanted:
                if 0 <= t < there:
                    total += of_frame(student[row, s], target, row, t) / len(wanted)  # type: ignore[operator]
                    count += 1 / len(wanted)
        found.append((total, count))
    return found


CASES = [
    ("1/1", [7, 3, 1], [7, 3, 1]),
    ("1/1", [7, 3, 2], [6, 4, 1]),  # rounded another way
    ("2/1", [8, 5, 1], [4, 3, 1]),
    ("2/1", [9, 4, 2], [4, 3, 1]),
    ("4/1", [12, 7, 1], [3, 2, 1]),
    ("1/2", [4, 3, 1], [8, 6, 1]),
    ("1/3", [4, 2, 1], [11, 7, 3]),
]


@pytest.mark.parametrize("group", ["mean", "pick"])
@pytest.mark.parametrize("shift", [0, 1, 2, -1, -2])
@pytest.mark.parametrize(("ratio", "teacher", "frames"), CASES)
def test_the_value_is_what_is_written_out(
    ratio: str, teacher: list[int], frames: list[int], shift: int, group: Group
) -> None:
    parsed, student, target = parse_ratio(ratio), student_of(frames), teacher_of(teacher)
    arguments = (torch.tensor(frames), target, parsed, [shift], group)
    found = aligned_posterior_kl(student, *arguments, "none")
    expected = written_out(frame_kl, student, frames, target, parsed, shift, group)
    assert found.tolist() == pytest.approx([total for total, _ in expected])
    vectors = VectorBatch(student_of(teacher, 4, 3), torch.tensor(teacher))
    values = student_of(frames, 5, 3)
    found = aligned_vector_mse(
        values, torch.tensor(frames), vectors, parsed, [shift], group, "none"
    )
    expected = written_out(frame_error, values, frames, vectors, parsed, shift, group)
    assert found.tolist() == pytest.approx([total for total, _ in expected])
    entries = torch.arange(len(teacher) * max(teacher) * 2).reshape(-1, max(teacher), 2) % 4
    packed = VectorBatch(vectors.values_BTD, vectors.lengths_B, entries)
    logits = torch.stack([student_of(frames, 6 + book, 4) for book in range(2)], dim=2)
    found = aligned_codebook_cross_entropy(
        logits, torch.tensor(frames), packed, parsed, [shift], group, "none"
    )
    expected = written_out(frame_entropy, logits, frames, packed, parsed, shift, group)
    assert found.tolist() == pytest.approx([total for total, _ in expected])
    per_frame = aligned_posterior_kl(student, *arguments, "none", "length")
    expected = written_out(frame_kl, student, frames, target, parsed, shift, group)
    assert per_frame.tolist() == pytest.approx([total / (n or 1) for total, n in expected])


@given(
    teacher=st.lists(st.integers(1, 12), min_size=1, max_size=3),
    factor=st.integers(1, 4),
    slower=st.booleans(),
    shifts=st.lists(st.integers(-3, 6), min_size=1, max_size=4, unique=True),
    rounding=st.sampled_from([0, 1]),
)
def test_the_best_shift_is_the_smallest_mean(
    teacher: list[int], factor: int, slower: bool, shifts: list[int], rounding: int
) -> None:
    ratio = FrameRatio(factor, 1) if slower else FrameRatio(1, factor)
    frames = [max(-(-t // factor) if slower else t * factor - rounding, 1) for t in teacher]
    student, target = student_of(frames), teacher_of(teacher)
    shifts = sorted(shifts)
    each = [written_out(frame_kl, student, frames, target, ratio, n, "mean") for n in shifts]
    found = aligned_posterior_kl(
        student, torch.tensor(frames), target, ratio, shifts, "mean", "none"
    )
    for row in range(len(teacher)):
        means = [
            (of[row][0] / of[row][1], of[row][0]) if of[row][1] else (float("inf"), 0.0)
            for of in each
        ]
        assert float(found[row]) == pytest.approx(min(means)[1], abs=1e-9)


def test_equal_rates_are_the_plain_loss() -> None:
    frames = [7, 3, 1]
    student, target = student_of(frames).requires_grad_(), teacher_of(frames)
    plain = posterior_kl(student, target, reduction="none", rest="spread")
    found = aligned_posterior_kl(
        student, torch.tensor(frames), target, reduction="none", rest="spread"
    )
    assert torch.equal(plain, found)
    assert torch.equal(gradient(plain, student), gradient(found, student))
    vectors, values = (
        VectorBatch(student_of(frames, 4, 3), torch.tensor(frames)),
        student_of(frames, 5, 3),
    )
    assert torch.equal(
        vector_mse(values, vectors), aligned_vector_mse(values, torch.tensor(frames), vectors)
    )


@pytest.mark.parametrize("ratio", ["1/1", "2/1", "1/2"])
def test_gradcheck(ratio: str) -> None:
    lengths = {"1/1": [4, 2], "2/1": [8, 3], "1/2": [2, 1]}[ratio]
    target, frames = teacher_of(lengths), torch.tensor([4, 2])

    def function(z: Tensor) -> Tensor:
        return aligned_posterior_kl(z, frames, target, parse_ratio(ratio), [1], "mean", "none")

    assert torch.autograd.gradcheck(function, (student_of([4, 2]).requires_grad_(),))


def test_the_gradient_of_a_mean_is_that_of_the_mean_probabilities() -> None:
    student, target = student_of([4]).requires_grad_(), teacher_of([8], k=V)
    loss = aligned_posterior_kl(student, torch.tensor([4]), target, FrameRatio(2, 1))
    q = torch.zeros(8, V, dtype=torch.float64)
    q.scatter_(1, target.ids_BNK[0], target.logp_BNC[0, :, :V].exp())
    mean = q.view(4, 2, V).mean(1)
    torch.testing.assert_close(gradient(loss, student)[0], student[0].softmax(-1) - mean)


def test_picking_never_shows_a_spike_that_falls_between() -> None:
    """The reason for the mean: a label on an odd frame is taught as blank by picking."""
    q = torch.full((1, 2, V), 1e-4, dtype=torch.float64)
    q[0, 0, 0] = q[0, 1, 3] = 1 - 4e-4
    target = PosteriorBatch(
        torch.cat([q.log(), torch.full((1, 2, 1), -torch.inf, dtype=torch.float64)], -1),
        torch.arange(V).expand(1, 2, V),
        torch.tensor([2]),
    )
    slopes = {}
    groups: tuple[Group, ...] = ("mean", "pick")
    for group in groups:
        student = torch.zeros(1, 1, V, dtype=torch.float64, requires_grad=True)
        loss = aligned_posterior_kl(
            student, torch.tensor([1]), target, FrameRatio(2, 1), group=group
        )
        slopes[group] = gradient(loss, student)[0, 0, 3]
    assert slopes["mean"] < -0.25
    assert slopes["pick"] > 0.19


def test_a_late_student_finds_its_delay() -> None:
    frames = [12, 9]
    logits = student_of(frames, 7)
    late = torch.roll(logits, 3, 1)
    q, ids = logits.softmax(-1).sort(-1, descending=True)
    rest = q[..., 2:].sum(-1, keepdim=True)
    target = PosteriorBatch(
        torch.cat([q[..., :2], rest], -1).log(), ids[..., :2], torch.tensor(frames)
    )
    late.requires_grad_()
    fixed = aligned_posterior_kl(late, torch.tensor(frames), target, shifts=[3], reduction="none")
    torch.testing.assert_close(fixed, torch.zeros(2, dtype=torch.float64), rtol=0, atol=1e-9)
    chosen = aligned_posterior_kl(
        late, torch.tensor(frames), target, shifts=range(7), reduction="none"
    )
    assert torch.equal(chosen, fixed)
    assert torch.equal(gradient(chosen, late), gradient(fixed, late))


def test_of_equal_shifts_the_smallest_is_taken() -> None:
    student, target = student_of([1]).expand(1, 6, V), teacher_of([1])
    same = PosteriorBatch(
        target.logp_BNC.expand(1, 6, 3), target.ids_BNK.expand(1, 6, 2), torch.tensor([6])
    )
    leaf = student.clone().requires_grad_()
    chosen = aligned_posterior_kl(leaf, torch.tensor([6]), same, shifts=range(4))
    # All six frames count: a larger shift has the same mean over fewer.
    assert (gradient(chosen, leaf)[0].abs().sum(-1) > 0).all()


def test_a_shift_beyond_the_utterance_costs_nothing_and_is_not_chosen() -> None:
    student, target = student_of([2, 8]).requires_grad_(), teacher_of([2, 8])
    frames = torch.tensor([2, 8])
    beyond = aligned_posterior_kl(student, frames, target, shifts=[5], reduction="none")
    assert beyond[0] == 0
    assert (gradient(beyond, student)[0] == 0).all()
    chosen = aligned_posterior_kl(student, frames, target, shifts=[0, 5], reduction="none")
    plain = aligned_posterior_kl(student, frames, target, reduction="none")
    assert chosen[0] == plain[0] > 0


@pytest.mark.parametrize("ratio", ["1/1", "2/1", "1/2"])
def test_padding_has_no_say(ratio: str) -> None:
    lengths = {"1/1": [5, 2], "2/1": [9, 4], "1/2": [3, 1]}[ratio]
    frames, parsed = [5, 2], parse_ratio(ratio)
    student, target = student_of(frames), teacher_of(lengths)
    clean = aligned_posterior_kl(
        student, torch.tensor(frames), target, parsed, [0, 1], "mean", "none"
    )
    dirty = torch.nn.functional.pad(student, (0, 0, 0, 3), value=float("nan"))
    dirty[1, 2:] = float("nan")
    dirty.requires_grad_()
    spoilt = torch.nn.functional.pad(target.logp_BNC, (0, 0, 0, 2), value=float("nan"))
    spoilt[1, lengths[1] :] = float("nan")
    wide = PosteriorBatch(
        spoilt, torch.nn.functional.pad(target.ids_BNK, (0, 0, 0, 2), value=-1), target.lengths_B
    )
    loss = aligned_posterior_kl(dirty, torch.tensor(frames), wide, parsed, [0, 1], "mean", "none")
    assert torch.equal(loss, clean)
    grad = gradient(loss, dirty)
    assert (grad[0, 5:] == 0).all()
    assert (grad[1, 2:] == 0).all()


def test_the_rest_may_be_spread_by_a_model() -> None:
    target, student = teacher_of([4]), student_of([2])
    weights = torch.randn(1, V, generator=torch.Generator().manual_seed(0))
    tail = TailTable(weights, torch.zeros(V, dtype=torch.int64))
    target = PosteriorBatch(target.logp_BNC, target.ids_BNK, target.lengths_B, tail)
    found = aligned_posterior_kl(
        student, torch.tensor([2]), target, FrameRatio(2, 1), rest="spread"
    )
    repeated = student.repeat_interleave(2, 1)
    assert float(found) == pytest.approx(float(posterior_kl(repeated, target, rest="spread")) / 2)


@pytest.mark.parametrize("shifts", [[2], [0, 2]])
def test_any_loss_can_be_aligned_over_any_axes(shifts: list[int]) -> None:
    """Values with two axes beside time: the same as with these as one."""
    values, target = (
        student_of([4, 2], 5, 6),
        VectorBatch(student_of([8, 5], 4, 6), torch.tensor([8, 5])),
    )
    frames, ratio = torch.tensor([4, 2]), FrameRatio(2, 1)

    def loss_of(pairs: Pairs) -> Tensor:
        apart = pairs.of_student(values.unflatten(-1, (2, 3)))
        error = apart - pairs.of_teacher(target.values_BTD.unflatten(-1, (2, 3)))
        there = torch.arange(error.shape[1]) < pairs.counts_B[:, None]
        return (error.square().mean((2, 3)) * there).sum(1)

    found = aligned_loss(loss_of, target.lengths_B, frames, ratio, shifts)
    expected = aligned_vector_mse(values, frames, target, ratio, shifts, reduction="none")
    torch.testing.assert_close(found, expected)


def test_ratios_are_parsed_and_told() -> None:
    assert parse_ratio("2/1") == FrameRatio(2, 1)
    assert str(parse_ratio("1/4")) == "1/4"
    for text in ("2/3", "2", "0/1", "1/-2", "a/1", "2/1 "):
        with pytest.raises(ConfigError, match="two integers of which one is 1"):
            parse_ratio(text)


@pytest.mark.parametrize(
    ("teacher", "student", "ratio"),
    [(0.04, 0.04, "1/1"), (0.04, 0.08, "2/1"), (0.08, 0.04, "1/2"), (0.02, 0.08, "4/1")],
)
def test_ratios_follow_from_frame_shifts(teacher: float, student: float, ratio: str) -> None:
    assert str(ratio_of_shifts(teacher, student)) == ratio


def test_shifts_that_are_no_multiples_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"every 0\.04 s and the student one every 0\.06 s"):
        ratio_of_shifts(0.04, 0.06)


@pytest.mark.parametrize(
    ("teacher", "student", "ratio", "fits"),
    [(9, 9, "1/1", True), (9, 7, "1/1", True), (9, 6, "1/1", False), (9, 4, "2/1", True),
     (9, 6, "2/1", True), (9, 7, "2/1", False), (4, 11, "1/2", True), (4, 4, "1/2", False)],
)  # fmt: skip
def test_rounding_is_borne_and_more_is_refused(
    teacher: int, student: int, ratio: str, fits: bool
) -> None:
    lengths = torch.tensor([teacher]), torch.tensor([student])
    if fits:
        check_frames(*lengths, parse_ratio(ratio), ["a"])
        return
    message = f"'a': the teacher has {teacher} frames and the student {student}; expected {ratio}"
    with pytest.raises(SpecMismatchError, match=message):
        check_frames(*lengths, parse_ratio(ratio), ["a"])


def test_bad_arguments_are_one_sentence() -> None:
    student, target, frames = student_of([3]), teacher_of([3]), torch.tensor([3])
    with pytest.raises(ConfigError, match="No time shift"):
        aligned_posterior_kl(student, frames, target, shifts=[])
    with pytest.raises(ConfigError, match="group is 'means'; expected one of mean, pick. Did you"):
        aligned_posterior_kl(student, frames, target, group="means")  # type: ignore[arg-type]
    with pytest.raises(
        SpecMismatchError, match="Row 0: the teacher has 3 frames and the student 9"
    ):
        aligned_posterior_kl(student_of([9]), torch.tensor([9]), target)
