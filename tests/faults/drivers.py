"""``kdcache extract`` in processes that can be killed, forked from one that has imported all.

Forking saves the seconds that importing torch and Ray takes; everything else, from parsing
the arguments to the exit code, is what the command does.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.faults.preloaded"])


@dataclass(frozen=True, slots=True)
class Driver:
    """One run of the command."""

    process: BaseProcess
    out: Path

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.process.is_alive()

    def kill(self) -> None:
        """kill −9."""
        if self.process.pid is not None and self.running:
            os.kill(self.process.pid, signal.SIGKILL)

    def end(self, seconds: float) -> int:
        """Its exit code, negative for a signal; TimeoutError after so many seconds."""
        self.process.join(seconds)
        if self.running:
            self.kill()
            raise TimeoutError(f"the driver did not end in {seconds:.0f} s: {self.errors()}")
        return self.process.exitcode or 0

    def report(self) -> dict[str, Any]:
        """What it printed."""
        value: dict[str, Any] = json.loads(self.out.read_text())
        return value

    def errors(self) -> str:
        """What it said on stderr."""
        return self.out.with_suffix(".err").read_text()[-2000:]


def start(config: Path, out: Path) -> Driver:
    """``kdcache extract CONFIG --json``, its output in files."""
    process = _FORKS.Process(target=_extract, args=(str(config), str(out)))
    process.start()
    return Driver(process, out)


def _extract(config: str, out: str) -> None:
    _into(1, out)
    _into(2, str(Path(out).with_suffix(".err")))
    os.environ["PYTHONUNBUFFERED"] = "1"
    from kdcache.cli.main import main

    main(["extract", config, "--json"])
    sys.stdout.flush()


def _into(descriptor: int, path: str) -> None:
    file = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
    os.dup2(file, descriptor)
    os.close(file)
