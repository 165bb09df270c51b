"""A student's frames beside those of a teacher with another frame rate, or with other timing.

With N the time shift in frames of the student, frame t + N of the student learns from the
teacher's frame at t: a streaming student emits later than a teacher that hears the future. With r
frames of one model to a frame of the other, who is compared with whom is

    equal rates              student s        teacher s − N
    student the faster       student s        teacher ⌊(s − N) / r⌋
    teacher the faster       student s        teacher r(s − N) … r(s − N) + r − 1     ``mean``
                                              teacher r(s − N)                        ``pick``

``mean`` is the mean of r divergences, one with each of the teacher's frames that the student's
stands for. Its gradient, p − mean(q), is that of one divergence from the mean *probabilities*.
Mean log-probabilities would need each class in every frame, where a cache keeps the likely ones
alone, and one frame that rules a class out would rule it out for all. Picking would not do for a
CTC teacher, whose labels are spikes of a frame: those that fall between are never shown to the
student, which is taught blank in their place. For vectors the gradient is that of one squared
error from the mean vector. ``pick`` suits states that are smooth in time, and costs less.

A frame without a counterpart, at either end, does not count. A divergence is a sum over the
student's frames that have one, each a mean over its teacher's frames; a last group of the teacher's
that is not whole counts by its share.

Where several time shifts are given, each utterance takes the one with the smallest mean over what
counts, the first of equal ones; the gradient goes through that one alone. The mean, because a sum
would favour shifts under which less counts.

Shapes: B batch, T frames, W frames of a window of the student's, P pairs of frames, R pairs of a
frame, X any more axes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import torch

from kdcache.errors import ConfigError
from kdcache.lattice.reduction import unknown_choice
from kdcache.loss.frames import SAME, FrameRatio, check_frames
from kdcache.loss.normalise import normalise_sequence

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from kdcache.loss.normalise import SequenceNormalise

Group = Literal["mean", "pick"]
"""What a frame of a slower student learns from: all of the teacher's frames in its time, or the
first of them."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Which frame of the teacher each of a run of student frames is compared with.

    Attributes:
        first_B: the student's first frame of each utterance; a number where it is the same for all.
        repeat: how many pairs in a row each frame of the student makes.
        teacher_BP: int64, the teacher's frame of each pair.
        counts_B: pairs of each utterance; what lies beyond is padding.
    """

    first_B: Tensor | int
    repeat: int
    teacher_BP: Tensor
    counts_B: Tensor

    def of_student(self, values_BTX: Tensor) -> Tensor:
        """The student's side of each pair: (B, P, X), differentiable; a view where it can be.

        X is one axis or several.
        """
        pairs = self.teacher_BP.shape[1]
        values_BWX = self._window(values_BTX, -(-pairs // self.repeat))
        if self.repeat == 1:
            return values_BWX
        # Expanded rather than gathered: the gradient is then a sum in one order on every device.
        pairs_BWRX = values_BWX[:, :, None].expand(-1, -1, self.repeat, *values_BWX.shape[2:])
        return pairs_BWRX.flatten(1, 2)[:, :pairs]

    def of_teacher(self, values_BTX: Tensor) -> Tensor:
        """The teacher's side of each pair: (B, P, X)."""
        return _gather(values_BTX, self.teacher_BP)

    def _window(self, values_BTX: Tensor, width: int) -> Tensor:
        if isinstance(self.first_B, int):
            first = min(self.first_B, values_BTX.shape[1] - width)
            return values_BTX[:, first : first + width]
        w_W = torch.arange(width, device=values_BTX.device)
        return _gather(values_BTX, self.first_B[:, None] + w_W)


def _gather(values_BTX: Tensor, index_BP: Tensor) -> Tensor:
    """Frames by index, (B, P, X); an index beyond the last, which is padding, has the last."""
    more = values_BTX.shape[2:]
    index_BPX = index_BP.clamp(max=values_BTX.shape[1] - 1).view(
        *index_BP.shape, *(1 for _ in more)
    )
    return values_BTX.gather(1, index_BPX.expand(-1, -1, *more))


def pair_frames(
    teacher_B: Tensor,
    student_B: Tensor,
    ratio: FrameRatio = SAME,
    shift_B: Tensor | int = 0,
    group: Group = "mean",
) -> Pairs:
    """Who is compared with whom: see the head of this file.

    Args:
        teacher_B: T of the teacher, int64.
        student_B: T of the student, int64.
        ratio: of their frames.
        shift_B: N of each utterance, in frames of the student.
        group: ``mean`` or ``pick``.

    Raises:
        ConfigError: ``group`` is unknown.
    """
    if group not in get_args(Group):
        raise ConfigError(unknown_choice("group", group, get_args(Group)))
    first_B, skipped_B = _positive(shift_B), _positive(-shift_B)
    r = ratio.teacher
    repeat = r if group == "mean" else 1
    # In pairs: what the teacher has, and what the student has room for.
    there_B = (teacher_B * repeat * ratio.student + r - 1) // r - skipped_B * repeat
    counts_B = torch.minimum(there_B, (student_B - first_B) * repeat).clamp(min=0)
    p_P = torch.arange(max(int(counts_B.max()), 1), device=teacher_B.device)
    skipped_B1 = skipped_B if isinstance(skipped_B, int) else skipped_B[:, None]
    fine_BP = (skipped_B1 * repeat + p_P).expand(len(teacher_B), -1)
    return Pairs(first_B, repeat, fine_BP * (r // repeat) // ratio.student, counts_B)


def _positive(shift_B: Tensor | int) -> Tensor | int:
    return max(shift_B, 0) if isinstance(shift_B, int) else shift_B.clamp(min=0)


def aligned_loss(
    loss_of: Callable[[Pairs], Tensor],
    teacher_B: Tensor,
    student_B: Tensor,
    ratio: FrameRatio = SAME,
    shifts: Sequence[int] = (0,),
    group: Group = "mean",
    normalise: SequenceNormalise = "none",
    ids: Sequence[str] | None = None,
) -> Tensor:
    """Any loss that is a sum over pairs of frames, under each utterance's shift: (B,).

    Args:
        loss_of: the loss of each utterance, (B,), summed over the pairs that count.
        teacher_B: T of the teacher, int64.
        student_B: T of the student, int64.
        ratio: frames of the teacher to frames of the student.
        shifts: the time shift in frames of the student, or several to choose from.
        group: what a frame of a slower student learns from.
        normalise: per utterance (``none``) or per frame that counts (``length``).
        ids: names for the error.

    Raises:
        SpecMismatchError: lengths differ by more than rounding, by name.
        ConfigError: no shift, or an unknown choice.
    """
    check_frames(teacher_B, student_B, ratio, ids)
    if not shifts:
        raise ConfigError("No time shift is given; expected at least one, such as 0.")

    def pairs_of(shift_B: Tensor | int) -> Pairs:
        return pair_frames(teacher_B, student_B, ratio, shift_B, group)

    shift_B = shifts[0] if len(shifts) == 1 else _best_shifts(loss_of, pairs_of, shifts)
    pairs = pairs_of(shift_B)
    loss_B = normalise_sequence(loss_of(pairs), pairs.counts_B, normalise)
    return loss_B if normalise == "length" else loss_B / pairs.repeat


@torch.no_grad()
def _best_shifts(
    loss_of: Callable[[Pairs], Tensor], pairs_of: Callable[[int], Pairs], shifts: Sequence[int]
) -> Tensor:
    """Of each utterance the shift with the smallest mean, the first of equal ones: (B,)."""
    means = []
    for shift in shifts:
        pairs = pairs_of(shift)
        mean_B = loss_of(pairs) / pairs.counts_B
        means.append(mean_B.masked_fill(pairs.counts_B == 0, torch.inf))
    best_B = torch.stack(means).argmin(0)
    return torch.tensor(shifts, device=best_B.device)[best_B]
