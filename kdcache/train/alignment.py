"""How a student's frames lie beside its teacher's in one run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kdcache.loss.frames import SAME, FrameRatio, parse_ratio, ratio_of_shifts
from kdcache.train.align_settings import OF_LATTICE, TERMS, ShiftRange

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kdcache.loss.pairs import Group
    from kdcache.train.align_settings import AlignSettings
    from kdcache.train.settings import LossSettings


@dataclass(frozen=True, slots=True)
class Alignment:
    """What the settings come to for one teacher and one student.

    Attributes:
        ratio: of their frames.
        group: see ``AlignSettings``.
        shifts: by term, those to choose from.
    """

    ratio: FrameRatio = SAME
    group: Group = "mean"
    shifts: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def shifts_of(self, term: str) -> Sequence[int]:
        """The time shifts of a term of the loss; 0 alone where nothing is set."""
        return self.shifts.get(term, (0,))


SIDE_BY_SIDE = Alignment()
"""Equal frame rates, and no shift."""


def alignment_of(
    settings: AlignSettings, loss: LossSettings, teacher: float | None, student: float
) -> Alignment:
    """The alignment of a run.

    Args:
        settings: of the run.
        loss: what is minimised; frame rates matter only where it compares frames.
        teacher: seconds from one frame of the teacher to the next; ``None`` without a teacher.
        student: the same of the student.

    Raises:
        ConfigError: neither shift is an integer multiple of the other.
    """
    ratio = SAME
    if settings.frame_ratio is not None:
        ratio = parse_ratio(settings.frame_ratio)
    elif teacher is not None and loss.weights().keys() & {*TERMS, *OF_LATTICE}:
        ratio = ratio_of_shifts(teacher, student)
    shifts = {name: _candidates(shift) for name, shift in settings.time_shift.items()}
    return Alignment(ratio, settings.group, shifts)


def _candidates(shift: int | ShiftRange) -> range:
    if isinstance(shift, int):
        return range(shift, shift + 1)
    return range(shift.min, shift.max + 1)
