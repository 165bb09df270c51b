"""Checkpoints of a run: written whole or not at all, and found again by the next start.

    <out>/student/                               the finished student, there only at the end
    <out>/teacher/                               the teacher that was trained beside it, if any
    <out>/best/                                  the one of the best validation, and its values
    <out>/checkpoints/step-00000400/student/     a Hugging Face directory
    <out>/checkpoints/step-00000400/teacher/     of a teacher that is trained beside it
    <out>/checkpoints/step-00000400/training.pt  optimiser, step, position in the stream

A directory is written under another name, flushed to the disk and then renamed, so that what has
its name is whole, also after a node is lost. ``best/`` is a copy of a checkpoint that is kept as
long as it is the best, so that it can be made again from what a checkpoint remembers.
``training.pt`` is read with ``weights_only=True``: tensors and plain values, no code.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from kdcache.errors import KdcacheError
from kdcache.student import save_student

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    from kdcache.student import Student

PREFIX = "step-"

VALIDATION = "validation.json"
"""Within ``best/``: the step, and what its validation gave."""


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

    @property
    def teacher(self) -> Path | None:
        """Directory of the teacher that was trained beside it, if any was."""
        found = self.path / "teacher"
        return found if found.is_dir() else None

    def training_state(self) -> dict[str, Any]:
        """Optimiser, stream position and the like.

        Raises:
            KdcacheError: the file is damaged.
        """
        try:
            state: dict[str, Any] = torch.load(
                self.path / "training.pt", map_location="cpu", weights_only=True
            )
        except Exception as error:  # torch raises many kinds; each means "not what was written"
            raise KdcacheError(
                f"The checkpoint {self.path} cannot be read ({type(error).__name__}); delete it, "
                "and the same command goes on from the one before."
            ) from error
        return state


def save_checkpoint(
    out: Path,
    step: int,
    student: Student,
    state: dict[str, Any],
    *,
    keep: int = 2,
    spare: Collection[int] = (),
    teacher: Student | None = None,
) -> Checkpoint:
    """Write one; then delete all but the newest ``keep`` and those of the steps in ``spare``.

    Args:
        out: directory of the run.
        step: optimiser steps done.
        student: as it is.
        state: all else that the run goes on from.
        keep: how many stay.
        spare: steps of others that stay.
        teacher: one that is trained beside the student.
    """
    final = out / "checkpoints" / f"{PREFIX}{step:08d}"
    with _whole(final) as temporary:
        save_student(student, temporary / "student")
        if teacher is not None:
            save_student(teacher, temporary / "teacher")
        torch.save(state, temporary / "training.pt")
    for old in list_checkpoints(out)[:-keep]:
        if old.step not in spare:
            shutil.rmtree(old.path, ignore_errors=True)
    return Checkpoint(final, step)


def save_finished(out: Path, student: Student) -> Path:
    """Write what the run was for; its directory."""
    final = finished_student(out)
    with _whole(final) as temporary:
        save_student(student, temporary)
    return final


def save_teacher(out: Path, teacher: Student) -> Path:
    """Write the teacher that was trained beside the student; its directory."""
    final = out / "teacher"
    with _whole(final) as temporary:
        save_student(teacher, temporary)
    return final


def finished_student(out: Path) -> Path:
    """Directory of the finished student; it exists when the run has come to its end."""
    return out / "student"


def best_student(out: Path) -> Path:
    """Directory of the student of the best validation; it exists once there was one."""
    return out / "best"


def read_best(out: Path) -> dict[str, Any] | None:
    """``step`` and values of the best validation; ``None`` before there is one."""
    path = best_student(out) / VALIDATION
    if not path.is_file():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def publish_best(out: Path, step: int, values: Mapping[str, Any]) -> None:
    """Copy the student of the checkpoint at ``step``, of which a validation gave ``values``.

    Nothing is done where that checkpoint is gone.
    """
    sources = [found.student for found in list_checkpoints(out) if found.step == step]
    if not sources:
        return
    with _whole(best_student(out)) as temporary:
        shutil.copytree(sources[0], temporary, dirs_exist_ok=True)
        text = json.dumps({"step": step, **values}, indent=2) + "\n"
        (temporary / VALIDATION).write_text(text, encoding="utf-8")


def clear_leavings(out: Path) -> None:
    """Delete what a killed start had half written."""
    for pattern in (f"checkpoints/.{PREFIX}*", ".student.*", ".teacher.*", ".best.*"):
        for path in out.glob(pattern):
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _whole(final: Path) -> Iterator[Path]:
    """A directory to write under a temporary name, which then takes the place of ``final``."""
    temporary = final.with_name(f".{final.name}.{uuid.uuid4().hex}")
    temporary.mkdir(parents=True)
    yield temporary
    for path in (*temporary.rglob("*"), temporary):
        _flush(path)
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)
    _flush(final.parent)


def _flush(path: Path) -> None:
    """Bring a file, or the names in a directory, onto the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def list_checkpoints(out: Path) -> list[Checkpoint]:
    """Whole checkpoints, oldest first."""
    found = (out / "checkpoints").glob(f"{PREFIX}*/training.pt")
    steps = ((int(p.parent.name.removeprefix(PREFIX)), p.parent) for p in found)
    return [Checkpoint(path, step) for step, path in sorted(steps)]
