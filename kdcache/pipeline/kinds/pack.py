"""``pack``: a student whose weights are packed. Output: ``student``, which scores as any other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kdcache.config import ConfigPath, Settings
from kdcache.pipeline.kind import StageKind
from kdcache.student import load_student, pack_student

if TYPE_CHECKING:
    from pathlib import Path

    from kdcache.pipeline.kind import Work


class PackSettings(Settings):
    """What is packed, and how."""

    student: ConfigPath
    """The student's folder."""

    int8: bool = True
    """Round matrices and kernels to 8 bits, a scale a channel."""

    sparse: bool = True
    """Leave zeros out where that saves bytes."""


class PackKind(StageKind[PackSettings]):
    """Pack; nothing is trained."""

    model = PackSettings

    def outputs(self, settings: PackSettings, place: Path) -> dict[str, Path]:
        """The packed student's folder."""
        return {"student": place / "student"}

    def run(self, settings: PackSettings, work: Work) -> dict[str, Any]:
        """Pack; the bytes of the network's weights."""
        file = pack_student(
            load_student(settings.student),
            work.place / "student",
            int8=settings.int8,
            sparse=settings.sparse,
        )
        return {"bytes": file.stat().st_size}
