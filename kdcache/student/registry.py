"""The kinds of student, and how one is made, written and read.

A student's directory says in ``config.json`` what it is: ``model_type``, as Hugging Face has it.
"""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from kdcache.errors import InputError
from kdcache.student.packing import unpacked

if TYPE_CHECKING:
    import torch

    from kdcache.corpus.tokenizer import Tokenizer
    from kdcache.student.base import Student
    from kdcache.student.settings import AnyStudentSettings

KINDS: dict[str, str] = {
    "ctc": "kdcache.student.ctc:CTCStudent",
    "san_m": "kdcache.student.san_m:SanMStudent",
    "transducer": "kdcache.student.transducer:TransducerStudent",
}
"""Class of each kind, by the name that settings use."""

MODEL_TYPES: dict[str, str] = {
    "kdcache_additive_rnnt": "transducer",
    "kdcache_san_m": "san_m",
    "kdcache_streaming_wav2vec2": "ctc",
    "parakeet_rnnt": "transducer",
    "wav2vec2": "ctc",
}
"""Kind of what lies in a directory, by the ``model_type`` of its ``config.json``."""


def build_student(settings: AnyStudentSettings, tokenizer: Tokenizer) -> Student:
    """A student with random weights (from torch's global seed), blank after the last token."""
    return student_class(settings.kind).build(settings, tokenizer)


def save_student(student: Student, directory: str | Path) -> Path:
    """Write the directory (made if needed) and return it."""
    path = Path(directory)
    path.mkdir(parents=True, exist_ok=True)
    student.save(path)
    return path


def load_student(directory: str | Path, device: torch.device | str = "cpu") -> Student:
    """Read what :func:`save_student` or :func:`pack_student` wrote, in evaluation mode.

    Raises:
        InputError: the directory holds no student that can be read.
        TokenizerError: the tokenizer's size is not the model's.
    """
    path = Path(directory)
    kind = student_class(kind_of(path))
    try:
        with unpacked(path) as place:
            student = kind.load(place)
    # What libraries raise where a file is gone, cut short, or of another network.
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        why = " ".join(str(error).split())[:200]
        raise InputError(
            f"The student in {path} cannot be read ({why}); copy the directory again, or train it "
            "again."
        ) from error
    return student.to(device).eval()


def student_class(kind: str) -> type[Student]:
    """The class of a kind; only its own module is imported."""
    module, _, name = KINDS[kind].partition(":")
    found: type[Student] = getattr(import_module(module), name)
    return found


def kind_of(path: Path) -> str:
    """The kind of the student that lies in a directory.

    Raises:
        InputError: none does.
    """
    file = path / "config.json"
    if not file.is_file():
        raise InputError(
            f"{path} is not a trained student: it has no config.json; give the directory that "
            "`kdcache train` wrote."
        )
    try:
        model_type = json.loads(file.read_text(encoding="utf-8"))["model_type"]
        return MODEL_TYPES[model_type]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{path} is not a trained student: the model_type of its config.json is none of "
            f"{', '.join(sorted(MODEL_TYPES))} ({error}); give the directory that `kdcache "
            "train` wrote."
        ) from error
