"""What a tokenizer is to the rest of kdcache, and what the implementations share.

Ids run from 0 to ``vocab_size − 1`` and never mean blank: where a model has a blank, it adds
one. Two tokenizers are the same if and only if the bytes of their files are.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from kdcache.errors import TokenizerError, TranscriptError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MODEL_FILE = "tokenizer.model"


@runtime_checkable
class Tokenizer(Protocol):
    """Text to label ids and back."""

    @property
    def vocab_size(self) -> int:
        """Number of ids, blank not counted unless the vocabulary itself lists one."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 over the files, by sorted name."""
        ...

    def encode(self, text: str) -> list[int]:
        """Label ids of a text, without special tokens.

        Raises:
            TranscriptError: the text is empty, or has pieces that are not in the vocabulary.
        """
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Text of label ids; special tokens are left out."""
        ...

    def files(self) -> dict[str, bytes]:
        """All that is needed to load it again, by file name."""
        ...

    def save(self, directory: str | Path) -> None:
        """Write :meth:`files` into a directory, for ``load_tokenizer`` to load."""
        ...


def fingerprint_files(files: Mapping[str, bytes]) -> str:
    """Hex SHA-256 over names and bytes, by sorted name."""
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\0{len(files[name])}\0".encode())
        digest.update(files[name])
    return digest.hexdigest()


def write_files(files: Mapping[str, bytes], directory: str | Path) -> None:
    """Write files by name into a directory, which is made where it is missing."""
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        if Path(name).name != name:
            raise TokenizerError(f"Got file name {name!r} of a tokenizer, expected a plain name.")
        (folder / name).write_bytes(data)


def cannot_spell(text: str, strange: list[str]) -> TranscriptError:
    """The error to raise for a text with pieces that are not in the vocabulary."""
    named = ", ".join(repr(piece) for piece in dict.fromkeys(strange))
    shown = text if len(text) <= 60 else text[:57] + "…"
    return TranscriptError(f"The tokenizer cannot spell {named} in {shown!r}.")
