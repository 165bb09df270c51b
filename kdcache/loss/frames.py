"""Frames of two models on one clock: whether they fit, and how many of the one pass with the other.

Frame t of a model stands for the time from t to t+1 of its frame shifts. Between models whose
shifts are an integer factor apart, each frame of the slower one stands for so many of the other;
where a model counts from elsewhere, that is an offset for a time shift to make good.

Shapes: B batch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdcache.errors import ConfigError, SpecMismatchError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

_CLOSE = 1e-3
"""Relative error of a factor that counts as an integer: shifts are given with few digits."""


@dataclass(frozen=True, slots=True)
class FrameRatio:
    """Frames in an equal time; one of the two numbers is 1.

    Attributes:
        teacher: frames of the teacher, 1 where the student is the faster.
        student: frames of the student, 1 where the teacher is the faster.
    """

    teacher: int = 1
    student: int = 1

    def __str__(self) -> str:
        return f"{self.teacher}/{self.student}"


SAME = FrameRatio()
"""Equal frame rates."""


def parse_ratio(text: str) -> FrameRatio:
    """``2/1`` is two frames of the teacher for one of the student.

    Raises:
        ConfigError: it is not two integers of which one is 1.
    """
    found = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", text)
    if found is None or "1" not in found.groups():
        raise ConfigError(
            f"The frame ratio is {text!r}; expected frames of the teacher to frames of the student "
            "as two integers of which one is 1, such as 2/1 or 1/2."
        )
    return FrameRatio(int(found[1]), int(found[2]))


def ratio_of_shifts(teacher: float, student: float) -> FrameRatio:
    """The ratio of two models by their frame shifts in seconds.

    Raises:
        ConfigError: neither is an integer multiple of the other.
    """
    factor = max(teacher, student) / min(teacher, student)
    whole = round(factor)
    if abs(factor - whole) > _CLOSE * factor:
        raise ConfigError(
            f"The teacher has a frame every {teacher:g} s and the student one every {student:g} s; "
            "expected one to be an integer multiple of the other. Choose another "
            "student.subsampling."
        )
    return FrameRatio(whole, 1) if student > teacher else FrameRatio(1, whole)


def check_frames(
    teacher_B: Tensor,
    student_B: Tensor,
    ratio: FrameRatio,
    ids: Sequence[str] | None = None,
) -> None:
    """Raise SpecMismatchError, by name, unless lengths agree but for rounding.

    Each model may have rounded its number of frames by one of its own, up or down.

    Args:
        teacher_B: T of the teacher.
        student_B: T of the student.
        ratio: of their frames.
        ids: names of the utterances; rows are named by number without.
    """
    slack = ratio.teacher + ratio.student
    excess_B = (teacher_B * ratio.student - student_B * ratio.teacher).abs()
    wrong = (excess_B > slack).nonzero()[:, 0].tolist()
    if wrong:
        row = wrong[0]
        name = f"Utterance {ids[row]!r}" if ids is not None else f"Row {row}"
        raise SpecMismatchError(
            f"{name}: the teacher has {int(teacher_B[row])} frames and the student "
            f"{int(student_B[row])}; expected {ratio}, but for rounding. Check that both hear the "
            "same audio, and their frame rates (student.subsampling, align.frame_ratio)."
        )
