"""What a kind of stage is: settings, outputs, and the work."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from kdcache.config import Settings
from kdcache.pipeline.digest import digest_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from kdcache.pipeline.show import Show

SettingsT = TypeVar("SettingsT", bound=Settings)


@dataclass(frozen=True, slots=True)
class Work:
    """What a stage is given to work with.

    Attributes:
        name: of the stage, such as ``student/plain/0``.
        place: its folder, which exists; what an interrupted run of it left is there.
        out: the folder of the whole run.
        variables: of ``for_each``, by name.
        show: opens a progress display, given label, total and unit.
        command: what was typed, for results.
        ray: whether what could do without Ray is to run under it all the same.
    """

    name: str
    place: Path
    out: Path
    variables: Mapping[str, Any]
    show: Show
    command: str = ""
    ray: bool = True


class StageKind(ABC, Generic[SettingsT]):
    """A kind of stage. Register one in ``kdcache/pipeline/registry.py`` or by entry point.

    The same settings and inputs must give the same outputs, and a stage that was killed is
    begun again in the folder that it left: it goes on from there, or makes it anew.
    """

    model: ClassVar[type[Settings]]
    """Of its settings. Fields that are ``ConfigPath`` or ``ConfigLocation`` are its inputs."""

    version: ClassVar[int] = 1
    """Raised where the same settings would give something else than before."""

    def complete(self, values: dict[str, Any], place: Path) -> dict[str, Any]:
        """The settings as written, with what the stage's folder decides.

        Raises:
            ConfigError: they set what the folder decides.
        """
        return values

    @abstractmethod
    def outputs(self, settings: SettingsT, place: Path) -> dict[str, Path]:
        """What it makes, by name; the first is meant where a recipe names none."""

    def decisive(self, settings: SettingsT) -> dict[str, Any]:
        """Of the settings, JSON-ready, those that change what it makes; defaults left out."""
        return settings.model_dump(mode="json", exclude_defaults=True)

    @abstractmethod
    def run(self, settings: SettingsT, work: Work) -> dict[str, Any]:
        """Do it; returns figures worth keeping in ``stage.json``."""

    def cpus(self, settings: SettingsT, ray: bool) -> float | None:
        """CPUs that it wants of a Ray that is started for the whole run on this machine; ``None``
        where it needs no Ray, or has one elsewhere.

        Args:
            settings: of the stage.
            ray: see ``Work.ray``.
        """
        return None

    def beside_others(self, settings: SettingsT, threads: int) -> SettingsT:
        """The settings for where several stages run at once, and each has so many threads of
        arithmetic; what comes out stays the same."""
        return settings

    def digest(self, name: str, path: Path) -> str:
        """Of the output ``name``: equal for equal content."""
        return digest_of(path)

    def text(self, settings: SettingsT, place: Path) -> str | None:
        """What to print of it at the end of the run, if anything."""
        return None
