"""The fingerprint of a teacher: equal if and only if its numbers are the same computation.

It covers the bytes of the weights and settings, the tokenizer, the adapter's version, the
dtype, and the major and minor versions of the libraries whose kernels make the numbers. It
does not cover the path, the device or the batch size.
"""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from typing import TYPE_CHECKING

from kdcache.types import fingerprint_of

if TYPE_CHECKING:
    from pathlib import Path

    from kdcache.teacher.directory import TeacherDirectory

LIBRARIES = ("torch", "transformers")


def file_digest(path: Path) -> str:
    """Hex SHA-256 of a file of any size."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def library_versions() -> dict[str, str]:
    """``major.minor`` of each library whose arithmetic is the teacher's."""
    return {name: ".".join(version(name).split(".")[:2]) for name in LIBRARIES}


def teacher_fingerprint(
    directory: TeacherDirectory, *, tokenizer: str, adapter: str, dtype: str
) -> str:
    """Hex SHA-256 over all that changes the teacher's numbers.

    Args:
        directory: its files.
        tokenizer: fingerprint of its tokenizer.
        adapter: name and version of the adapter, such as ``transducer-1``.
        dtype: of its weights and activations.
    """
    heads = [head for head in (directory.ctc_head, directory.rescorer) if head is not None]
    files = (*directory.weights, *directory.settings_files, *heads)
    return fingerprint_of(
        {
            "files": {file.name: file_digest(file) for file in files},
            "tokenizer": tokenizer,
            "adapter": adapter,
            "dtype": dtype,
            "libraries": library_versions(),
        }
    )
