"""Digit strings composed of single recorded digits, by the recordings' own script."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from kdcache.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

DATA_VARIABLE = "KDCACHE_DATA"
DEFAULT_DATA = "../shared/data"


def compose_digits(out: Path, hours: Mapping[str, float], splits: str, seed: int) -> None:
    """Write a manifest for each split into ``out``, unless they are there already.

    Args:
        out: the folder, made if needed.
        hours: by split; its manifest is ``OUT/<split>.jsonl``.
        splits: file beside the recordings that says which of them belong to which split.
        seed: of every choice; equal ones give equal strings.

    Raises:
        InputError: the recordings are not there, or their script fails.
    """
    if (out / "summary.json").is_file():
        return
    data = Path(os.environ.get(DATA_VARIABLE, DEFAULT_DATA))
    script = data / "make_strings.py"
    if not script.is_file():
        raise InputError(
            f"Digit strings are composed from recordings, and {script} is not there; set "
            f"{DATA_VARIABLE} to the folder that holds it, or use synthesised speech."
        )
    command = [
        sys.executable,
        str(script),
        *("--out", str(out)),
        *("--digits", str(data / "digits")),
        *("--hours", ",".join(f"{name}={amount}" for name, amount in hours.items())),
        *("--seed", str(seed)),
        *("--speakers", str(data / "digits" / splits)),
    ]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode:
        raise InputError(f"{script} failed: {found.stderr.strip().splitlines()[-1]}")
