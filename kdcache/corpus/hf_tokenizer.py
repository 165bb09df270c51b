"""Tokenizers of the transformers library."""

from __future__ import annotations

import inspect
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdcache.corpus.tokenizer_protocol import (
    MODEL_FILE,
    cannot_spell,
    fingerprint_files,
    write_files,
)
from kdcache.errors import TokenizerError, TranscriptError

if TYPE_CHECKING:
    from collections.abc import Sequence

HF_FILES = (
    "added_tokens.json",
    "merges.txt",
    "normalizer.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)
"""Files of a model's directory that belong to its tokenizer, whatever its class names."""


class HFTokenizer:
    """A tokenizer of the transformers library: Parakeet, Wav2Vec2, Whisper and others."""

    def __init__(self, directory: str | Path) -> None:
        """Load from a directory; no network, and no code of the directory is run.

        Raises:
            TokenizerError: there is no tokenizer that transformers can load.
        """
        from transformers import AutoTokenizer

        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(
                str(directory), local_files_only=True, trust_remote_code=False
            )
        except Exception as error:  # transformers raises many kinds; each means "unusable"
            reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(" :")
            raise TokenizerError(
                f"{directory} holds no tokenizer: expected {MODEL_FILE}, or files that "
                f"transformers loads, such as tokenizer.json with tokenizer_config.json ({reason})."
            ) from error
        self._files = self._read_files(Path(directory))

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        from kdcache.corpus.tokenizer import tokenizer_from_files

        return tokenizer_from_files, (self._files,)

    @property
    def vocab_size(self) -> int:
        """Number of ids, added tokens among them."""
        return len(self._tokenizer)

    @cached_property
    def fingerprint(self) -> str:
        """Hex SHA-256 over the files."""
        return fingerprint_files(self._files)

    def encode(self, text: str) -> list[int]:
        """Ids without special tokens; see :meth:`Tokenizer.encode`."""
        ids = [int(i) for i in self._tokenizer(text, add_special_tokens=False)["input_ids"]]
        if not text.strip() or not ids:
            raise TranscriptError("The transcript is empty.")
        unknown = self._unknown_id
        if unknown is not None and unknown in ids:
            raise cannot_spell(text, self._strange(text, unknown))
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of label ids. Repeated ids are kept: nothing is collapsed as in CTC."""
        options = {"group_tokens": False} if self._groups_tokens else {}
        found = self._tokenizer.decode([int(i) for i in ids], skip_special_tokens=True, **options)
        return str(found)

    def files(self) -> dict[str, bytes]:
        """The tokenizer's files, as they were in the directory."""
        return dict(self._files)

    def save(self, directory: str | Path) -> None:
        """Write the files into a directory."""
        write_files(self._files, directory)

    def _read_files(self, directory: Path) -> dict[str, bytes]:
        names = {*HF_FILES, *self._tokenizer.vocab_files_names.values()}
        paths = [directory / name for name in sorted(names)]
        return {path.name: path.read_bytes() for path in paths if path.is_file()}

    @cached_property
    def _unknown_id(self) -> int | None:
        """The id of what cannot be spelt; byte-level vocabularies spell everything."""
        unknown = self._tokenizer.unk_token_id
        # Whisper's unknown token is its end token, which no text gives.
        return None if unknown is None or unknown == self._tokenizer.eos_token_id else unknown

    @cached_property
    def _groups_tokens(self) -> bool:
        parameters = inspect.signature(type(self._tokenizer)._decode).parameters
        return "group_tokens" in parameters

    def _strange(self, text: str, unknown: int) -> list[str]:
        encode = self._tokenizer
        return [
            c for c in text if unknown in encode(c, add_special_tokens=False)["input_ids"]
        ] or text.split()
