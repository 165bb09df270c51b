"""Settings of which frames of teacher and student belong together; see ``kdcache.loss.pairs``."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator

from kdcache.config import Settings
from kdcache.errors import did_you_mean

TERMS = (
    "encoder_kl",
    "lattice_kl",
    "hidden_mse",
    "hidden_codes",
    "logit_mse",
    "sequence_kd",
)
"""Terms of the loss that compare frames, and that time shifts are set for."""

OF_LATTICE = ("alignment_kl", "best_path_kl")
"""Terms that go by the shift of ``lattice_kl``: they are of the same lattice."""

LONGEST = 1000
"""Frames of a time shift at most: more is a mistake."""


class ShiftRange(Settings):
    """Time shifts from which each utterance takes the best."""

    min: int = Field(default=0, ge=-LONGEST, le=LONGEST)
    """The smallest, in frames of the student."""

    max: int = Field(ge=-LONGEST, le=LONGEST)
    """The largest."""


class AlignSettings(Settings):
    """Which of the teacher's frames a frame of the student learns from."""

    frame_ratio: str | None = None
    """Frames of the teacher to frames of the student in an equal time, such as ``2/1``; from both
    models' frame shifts if left out."""

    group: Literal["mean", "pick"] = "mean"
    """Where the teacher is the faster, what a frame of the student learns from: ``mean``, each of
    the teacher's frames in its time, or ``pick``, the first of them. Lattices are always merged."""

    time_shift: dict[str, int | ShiftRange] = Field(default={})
    """By term of the loss: frame t + shift of the student learns from the teacher's frame at t.
    A number of the student's frames; or, but for ``lattice_kl``, ``{min: 0, max: 6}``, of which
    each utterance takes the shift with the smallest mean divergence. That of ``lattice_kl`` is the
    whole lattice's, ``alignment_kl`` and ``best_path_kl`` included."""

    @field_validator("frame_ratio")
    @classmethod
    def _ratio(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[1-9]\d*/1|1/[1-9]\d*", value):
            raise ValueError(f"should be a ratio such as 2/1 or 1/2, got {value!r}")
        return value

    @field_validator("time_shift")
    @classmethod
    def _shifts(cls, value: dict[str, int | ShiftRange]) -> dict[str, int | ShiftRange]:
        for name, shift in value.items():
            if name not in TERMS:
                hint = did_you_mean(name, TERMS)
                raise ValueError(f"should name terms ({', '.join(TERMS)}), got {name!r}.{hint}")
            if isinstance(shift, ShiftRange) and shift.min > shift.max:
                raise ValueError(
                    f"should have min at most max, got {shift.min} and {shift.max} for {name}"
                )
            if isinstance(shift, int) and abs(shift) > LONGEST:
                raise ValueError(f"should be at most {LONGEST} frames, got {shift} for {name}")
        if isinstance(value.get("lattice_kl"), ShiftRange):
            raise ValueError(
                "should be one number for lattice_kl: under another shift the nodes of a lattice "
                "are others, and their divergences cannot be compared"
            )
        return value
