"""Kinds of stages that take no time: they write what they are told, and can be killed."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

from pydantic import Field

from kdcache.config import ConfigPath, Settings
from kdcache.pipeline import StageKind

if TYPE_CHECKING:
    from pathlib import Path

    from kdcache.pipeline import Work

LOG = "work.log"
"""In the run's folder: a line for each time that a stage began to work."""


class WriteSettings(Settings):
    text: str = ""
    """What is written."""

    read: tuple[ConfigPath, ...] = ()
    """Files whose text is written after it."""

    free: int = 0
    """Does not matter."""

    numbers: dict[str, float] = Field(default={})
    """Matter as well."""


class Write(StageKind[WriteSettings]):
    """Writes ``text`` and the texts that it reads, in two halves."""

    model = WriteSettings

    def outputs(self, settings: WriteSettings, place: Path) -> dict[str, Path]:
        return {"file": place / "file.txt", "other": place / "other.txt"}

    def decisive(self, settings: WriteSettings) -> dict[str, Any]:
        return settings.model_dump(mode="json", exclude={"free"}, exclude_defaults=True)

    def run(self, settings: WriteSettings, work: Work) -> dict[str, Any]:
        with (work.out / LOG).open("a") as file:
            file.write(f"{work.name}\n")
        text = settings.text + "".join(path.read_text() for path in settings.read)
        half = work.place / "half.txt"
        half.write_text(text)
        if work.name in os.environ.get("FAKE_KILL", "").split(","):
            os.kill(os.getpid(), signal.SIGKILL)
        if work.name in os.environ.get("FAKE_FAIL", "").split(","):
            raise RuntimeError(work.name)
        half.replace(work.place / "file.txt")
        (work.place / "other.txt").write_text("the same always")
        return {"length": len(text)}

    def text(self, settings: WriteSettings, place: Path) -> str | None:
        return (place / "file.txt").read_text() if place.name == "last" else None


class Forgetful(Write):
    """Ends without its output."""

    def run(self, settings: WriteSettings, work: Work) -> dict[str, Any]:
        return {}
