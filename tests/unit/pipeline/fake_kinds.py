"""Kinds of stages that take no time: they write what they are told, and can be killed."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

from pydantic import Field

from kdcache.config import ConfigPath, Settings
from kdcache.errors import ConfigError, KdcacheError
from kdcache.pipeline import StageKind
from kdcache.signals import Stopped, stop_signals

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


class OddError(KdcacheError):
    """Cannot travel."""

    code = "odd"

    def __init__(self, lock: object) -> None:
        super().__init__("odd")
        self.lock = lock


class ActSettings(WriteSettings):
    act: str = ""
    """What it does before it writes."""

    others: int = 0
    """To ``meet``: how many there are to be at once."""


class Act(Write):
    """Does something that only shows in a process of its own, then writes."""

    model = ActSettings

    def run(self, settings: WriteSettings, work: Work) -> dict[str, Any]:
        assert isinstance(settings, ActSettings)
        match settings.act:
            case "meet":
                self._meet(work, settings.others)
            case "show":
                self._show(work)
            case "threads":
                import torch

                (work.out / f"threads-{os.getpid()}").write_text(str(torch.get_num_threads()))
            case "linger":
                self._linger(work)
            case "keep":
                self._keep(work)
            case "full":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "disk.bin")
            case "lock":
                raise OddError(threading.Lock())
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "refuse":
                raise ConfigError(f"{work.name} is refused.")
            case "fail":
                raise ValueError(f"{work.name} has a defect")
        return super().run(settings, work)

    def _meet(self, work: Work, others: int) -> None:
        """Wait until as many are at work, and a little for one too many."""
        meeting = work.out / "meeting"
        meeting.mkdir(exist_ok=True)
        me = meeting / str(os.getpid())
        me.touch()
        end = time.monotonic() + 60
        while len(list(meeting.iterdir())) < others and not (work.out / "met").exists():
            assert time.monotonic() < end, "nobody came"
            time.sleep(0.02)
        time.sleep(0.3)
        with (work.out / "met").open("a") as file:
            file.write(f"{len(list(meeting.iterdir()))}\n")
        me.unlink()

    def _linger(self, work: Work) -> None:
        """Never end, nor does a process of its own."""
        child = subprocess.Popen(["sleep", "300"])
        name = work.name.replace("/", "-")
        half = work.out / f"half-{name}"
        half.write_text(f"{os.getpid()} {child.pid}")
        half.replace(work.out / f"lingers-{name}")
        time.sleep(300)

    def _keep(self, work: Work) -> None:
        """Never end, but keep what there is when asked to end, as a training does."""
        name = work.name.replace("/", "-")
        with stop_signals() as stopped:
            (work.out / f"lingers-{name}").write_text(str(os.getpid()))
            while stopped() is None:
                time.sleep(0.01)
        (work.out / f"kept-{name}").touch()
        raise Stopped(stopped() or 0, "Stopped.")

    def _show(self, work: Work) -> None:
        """Tell progress from two threads, as a training does."""
        with work.show(f"Showing {work.name}", 2, "steps") as shown:
            thread = threading.Thread(target=shown.update, args=(1,))
            thread.start()
            thread.join()
            shown.update(2, note="done")
