"""A student's directory with its weights packed: see ``kdcache.student.packed_file``.

It is what ``save_student`` writes, but ``model.packed`` stands in the place of
``model.safetensors``, likewise a rescorer's, and heads that only training uses are left out.
``load_student`` reads it: weights are floats again, exactly those that the integers stand for.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from kdcache.errors import InputError
from kdcache.student.packed_file import pack_file, unpack_file
from kdcache.student.transducer_files import CTC_HEAD, DISTILLATION_HEADS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kdcache.student.base import Student

FLOATS, PACKED = ".safetensors", ".packed"
WEIGHTS = "model"
TRAINING_ONLY = (CTC_HEAD, DISTILLATION_HEADS)


def pack_student(
    student: Student, directory: str | Path, *, sparse: bool = True, int8: bool = True
) -> Path:
    """Write a student with its weights packed; the file of its network's weights.

    Args:
        student: of any kind, its zeros where they are.
        directory: where to; made if missing.
        sparse: whether zeros are left out where that saves bytes.
        int8: whether matrices and kernels are rounded to 8 bits.

    Raises:
        InputError: a weight is not finite, or the directory holds a student that is not packed.
    """
    path = Path(directory)
    path.mkdir(parents=True, exist_ok=True)
    if (path / f"{WEIGHTS}{FLOATS}").exists():
        raise InputError(
            f"{path} holds a student already, whose weights are not packed; give another directory."
        )
    with tempfile.TemporaryDirectory() as place:
        student.save(Path(place))
        for file in sorted(Path(place).iterdir()):
            if file.suffix == FLOATS and file.name not in TRAINING_ONLY:
                pack_file(file, path / f"{file.stem}{PACKED}", int8=int8, sparse=sparse)
            elif file.suffix != FLOATS:
                shutil.copyfile(file, path / file.name)
    return path / f"{WEIGHTS}{PACKED}"


def is_packed(directory: Path) -> bool:
    """Whether what lies there has its weights packed."""
    return (directory / f"{WEIGHTS}{PACKED}").is_file()


def weights_file(directory: Path) -> Path:
    """The file of the network's weights in a student's directory, packed or not."""
    return directory / f"{WEIGHTS}{PACKED if is_packed(directory) else FLOATS}"


@contextmanager
def unpacked(directory: Path) -> Iterator[Path]:
    """A directory that a student is read from: a temporary one where its weights are packed.

    Raises:
        InputError: packed weights are damaged.
    """
    if not is_packed(directory):
        yield directory
        return
    with tempfile.TemporaryDirectory() as place:
        for file in sorted(path for path in directory.iterdir() if path.is_file()):
            if file.suffix == PACKED:
                unpack_file(file, Path(place) / f"{file.stem}{FLOATS}")
            else:
                shutil.copyfile(file, Path(place) / file.name)
        yield Path(place)
