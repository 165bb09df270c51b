"""Checkpoints of a run: written whole or not at all, and found again by the next start.

    <out>/student/                               the finished student, there only at the end
    <out>/checkpoints/step-00000400/student/     a Hugging Face directory
    <out>/checkpoints/step-00000400/training.pt  optimiser, step, position in the stream

``training.pt`` is read with ``weights_only=True``: tensors and plain values, no code.
"""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from kdcache.student import save_student

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kdcache.student import TransducerStudent

PREFIX = "step-"
KEEP = 2


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint on disk.

    Attributes:
        path: its directory.
        step: optimiser steps done.
    """

    path: Path
    step: int

    @property
    def student(self) -> Path:
        """Directory of the student's weights."""
        return self.path / "student"

    def training_state(self) -> dict[str, Any]:
        """Optimiser, stream position and the like."""
        state: dict[str, Any] = torch.load(
            self.path / "training.pt", map_location="cpu", weights_only=True
        )
        return state


def save_checkpoint(
    out: Path, step: int, student: TransducerStudent, state: dict[str, Any]
) -> Checkpoint:
    """Write a checkpoint under a temporary name, then rename; keep the newest ``KEEP``."""
    final = out / "checkpoints" / f"{PREFIX}{step:08d}"
    with _whole(final) as temporary:
        save_student(student, temporary / "student")
        torch.save(state, temporary / "training.pt")
    for old in list_checkpoints(out)[:-KEEP]:
        shutil.rmtree(old.path, ignore_errors=True)
    return Checkpoint(final, step)


def save_finished(out: Path, student: TransducerStudent) -> Path:
    """Write what the run was for; its directory."""
    final = finished_student(out)
    with _whole(final) as temporary:
        save_student(student, temporary)
    return final


def finished_student(out: Path) -> Path:
    """Directory of the finished student; it exists when the run has come to its end."""
    return out / "student"


@contextmanager
def _whole(final: Path) -> Iterator[Path]:
    """A directory to write under a temporary name, which then takes the place of ``final``."""
    temporary = final.with_name(f".{final.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    yield temporary
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)


def list_checkpoints(out: Path) -> list[Checkpoint]:
    """Whole checkpoints, oldest first."""
    found = (out / "checkpoints").glob(f"{PREFIX}*/training.pt")
    steps = ((int(p.parent.name.removeprefix(PREFIX)), p.parent) for p in found)
    return [Checkpoint(path, step) for step, path in sorted(steps)]
