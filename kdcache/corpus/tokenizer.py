"""Tokenizers: text ↔ label ids, with a fingerprint that caches and checkpoints carry."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from kdcache.corpus.hf_tokenizer import HFTokenizer
from kdcache.corpus.sentencepiece_tokenizer import SentencePieceTokenizer
from kdcache.corpus.tokenizer_protocol import (
    MODEL_FILE,
    Tokenizer,
    fingerprint_files,
    write_files,
)
from kdcache.corpus.tokenizer_training import train_sentencepiece
from kdcache.errors import TokenizerError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "MODEL_FILE",
    "HFTokenizer",
    "SentencePieceTokenizer",
    "Tokenizer",
    "fingerprint_files",
    "load_tokenizer",
    "tokenizer_from_files",
    "train_sentencepiece",
    "write_files",
]


def load_tokenizer(path: str | Path) -> Tokenizer:
    """Load a ``.model`` file, or the tokenizer of a directory.

    In a directory, ``tokenizer.model`` is taken where there is one; otherwise transformers
    finds out what the directory holds.

    Raises:
        TokenizerError: there is none that can be loaded.
    """
    path = Path(path)
    if path.is_dir():
        model = path / MODEL_FILE
        return SentencePieceTokenizer.from_file(model) if model.exists() else HFTokenizer(path)
    if not path.exists():
        raise TokenizerError(f"{path} does not exist; expected a .model file or a directory.")
    return SentencePieceTokenizer.from_file(path)


def tokenizer_from_files(files: Mapping[str, bytes]) -> Tokenizer:
    """Inverse of :meth:`Tokenizer.files`.

    Raises:
        TokenizerError: they make no tokenizer.
    """
    if set(files) == {MODEL_FILE}:
        return SentencePieceTokenizer(files[MODEL_FILE])
    with tempfile.TemporaryDirectory() as directory:
        write_files(files, directory)
        return load_tokenizer(directory)
