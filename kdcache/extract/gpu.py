"""How busy this machine's GPUs are, where there are any: asked now and then, beside the work.

Through ``pynvml`` where that is installed, else through NVIDIA's ``nvidia-smi``. Actors on other
machines are not seen; there, Ray's own metrics say it.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

EVERY = 5.0
"""Seconds between two questions."""

_QUERY = ("--query-gpu=utilization.gpu", "--format=csv,noheader,nounits")


class GpuWatch:
    """Asks in a thread of its own while the block runs, so that nobody waits for the answer."""

    def __init__(self, ask: Callable[[], float | None] | None = None, every: float = EVERY) -> None:
        self._ask = find_gpus() if ask is None else ask
        self._every = every
        self._busy: float | None = None
        self._over = threading.Event()

    def __call__(self) -> float | None:
        """The last answer: share of its time that the busiest GPU computes, 0 to 1."""
        return self._busy

    def __enter__(self) -> GpuWatch:
        if self._ask is not None:
            threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()

    def _watch(self) -> None:
        assert self._ask is not None
        while not self._over.is_set():
            self._busy = self._ask()
            if self._busy is None:
                return
            self._over.wait(self._every)


def find_gpus() -> Callable[[], float | None] | None:
    """What tells how busy the busiest GPU is; ``None`` where there is nothing to ask."""
    return _through_nvml() or _through_smi()


def _through_nvml() -> Callable[[], float | None] | None:
    try:
        import pynvml

        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
    except Exception:  # not installed, or no driver: of many kinds, each of which means "none"
        return None

    def ask() -> float | None:
        try:
            return float(max(pynvml.nvmlDeviceGetUtilizationRates(h).gpu for h in handles)) / 100
        except pynvml.NVMLError:
            return None

    return ask if handles else None


def _through_smi() -> Callable[[], float | None] | None:
    program = shutil.which("nvidia-smi")
    if program is None:
        return None

    def ask() -> float | None:
        try:
            told = subprocess.run(
                [program, *_QUERY], capture_output=True, text=True, timeout=30, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return parse_utilisation(told.stdout)

    return ask


def parse_utilisation(text: str) -> float | None:
    """``nvidia-smi``'s percentages, a GPU a line → the largest, 0 to 1; ``None`` without any."""
    shares = [int(line) for line in text.split() if line.isdigit()]
    return max(shares) / 100 if shares else None
