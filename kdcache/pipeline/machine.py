"""This machine in a few words, for beside figures."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def machine() -> str:
    """Such as ``2 cores of AMD EPYC, no GPU``."""
    return f"{os.cpu_count()} cores of {_processor()}, {_gpu()}"


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line)
    return next(names, platform.machine())


def _gpu() -> str:
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no GPU"
