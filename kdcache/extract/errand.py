"""What a teacher is heard on a sample for, and what comes of it. Plain values: they cross Ray, and
an actor must be able to read them before its libraries are imported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from kdcache.extract.config import ExtractConfig
    from kdcache.store import Choice
    from kdcache.types import TargetSpec, TeacherSpec, Utterance


@dataclass(frozen=True, slots=True)
class Errand:
    """What is to be found out: what the targets of ``config`` leave open.

    Attributes:
        config: of the extraction.
        teacher: whom to ask; another one is not believed.
        sample: what the teacher will hear.
        hours: of audio of the whole corpus; 0 where the manifests do not say.
    """

    config: ExtractConfig
    teacher: TeacherSpec
    sample: tuple[Utterance, ...]
    hours: float


@dataclass(frozen=True, slots=True)
class Survey:
    """How far it is.

    Attributes:
        label: what is being done, such as ``hearing a sample``.
        unit: what is counted.
        done, total: how much.
        choices: what was chosen; empty until the end.
    """

    label: str
    unit: str
    done: int
    total: int
    choices: tuple[Choice, ...] = ()


@dataclass(frozen=True, slots=True)
class Settled:
    """What was found out.

    Attributes:
        targets: without anything open.
        choices: how those with a goal came about.
    """

    targets: tuple[TargetSpec, ...]
    choices: tuple[Choice, ...] = ()


if TYPE_CHECKING:
    Watch = Callable[[Survey], None]
    Scout = Callable[[Errand, Watch], Settled]
    """Whoever runs the errand: this process, or an actor where teachers run."""
