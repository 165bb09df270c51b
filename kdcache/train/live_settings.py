"""Settings of a teacher that hears what the student hears: ``live`` of a training configuration."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from kdcache.config import ConfigPath, Settings
from kdcache.student.settings import AnyStudentSettings


class LiveSettings(Settings):
    """A teacher in the process, in the place of a cache's targets: a control."""

    teacher: ConfigPath | None = None
    """A trained student that teaches."""

    build: AnyStudentSettings | None = None
    """In its place: a teacher of these sizes with random weights, which has to be trained."""

    train: bool = False
    """Train the teacher in the same steps (*tandem*), by the terms of ``loss`` that need no
    teacher. It then hears what the student hears, noise and masks included, and no gradient of the
    student's reaches it but through what is shared. Otherwise it is frozen and hears clean speech,
    as it would for a cache."""

    share_decoder: bool = False
    """Have prediction network and joint network in common, which both train."""

    targets: tuple[str | dict[str, Any], ...] = Field(default=())
    """What is kept of its belief, written as for ``kdcache extract``; codecs do not apply, since
    nothing is packed. Left out: what ``data.cache`` keeps, or without one each target as it is by
    default."""

    @model_validator(mode="after")
    def _one_teacher(self) -> LiveSettings:
        if (self.teacher is None) == (self.build is None):
            raise ValueError("should have one of `teacher` and `build`")
        if not self.train:
            for name in ("build", "share_decoder"):
                if getattr(self, name):
                    raise ValueError(f"should have train: true for {name}")
        return self
