"""The teacher that a configuration names, in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdcache.teacher import load_teacher

if TYPE_CHECKING:
    from kdcache.extract.config import TeacherSettings
    from kdcache.teacher import Teacher


def load_configured(settings: TeacherSettings, device: str) -> Teacher:
    """The teacher on ``device``, which the settings may leave to Ray.

    Raises:
        InputError: see :func:`kdcache.teacher.load_teacher`.
    """
    return load_teacher(
        settings.path, device, settings.dtype, settings.adapter, compiled=settings.compile
    )
