"""Tokenizers that are SentencePiece models."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from kdcache.corpus.tokenizer_protocol import (
    MODEL_FILE,
    cannot_spell,
    fingerprint_files,
    write_files,
)
from kdcache.errors import TokenizerError, TranscriptError

if TYPE_CHECKING:
    from collections.abc import Sequence


class SentencePieceTokenizer:
    """A SentencePiece model."""

    def __init__(self, model: bytes) -> None:
        """Load a serialised model.

        Raises:
            TokenizerError: the bytes are no SentencePiece model.
        """
        import sentencepiece

        self._model = model
        self._processor = sentencepiece.SentencePieceProcessor()
        try:
            self._processor.LoadFromSerializedProto(model)
        except RuntimeError as error:
            raise TokenizerError(
                f"{len(model)} bytes were given that are no SentencePiece model."
            ) from error

    @classmethod
    def from_file(cls, path: str | Path) -> SentencePieceTokenizer:
        """Load a ``.model`` file.

        Raises:
            TokenizerError: it cannot be read, or is no SentencePiece model.
        """
        try:
            return cls(Path(path).read_bytes())
        except OSError as error:
            raise TokenizerError(f"{path} cannot be read: {error.strerror}.") from error
        except TokenizerError as error:
            raise TokenizerError(f"{path} is no SentencePiece model.") from error

    def __reduce__(self) -> tuple[type[SentencePieceTokenizer], tuple[bytes]]:
        return SentencePieceTokenizer, (self._model,)

    @property
    def vocab_size(self) -> int:
        """Number of pieces, the unknown piece among them."""
        return int(self._processor.vocab_size())

    @cached_property
    def fingerprint(self) -> str:
        """Hex SHA-256 over the files."""
        return fingerprint_files(self.files())

    def encode(self, text: str) -> list[int]:
        """Ids of the best segmentation; see :meth:`Tokenizer.encode`."""
        ids: list[int] = self._processor.encode(text)
        if not ids:
            raise TranscriptError("The transcript is empty.")
        unknown = self._processor.unk_id()
        if unknown in ids:
            surfaces = self._processor.encode(text, out_type=str)
            strange = [p for p, i in zip(surfaces, ids, strict=True) if i == unknown]
            raise cannot_spell(text, strange)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of label ids."""
        return str(self._processor.decode([int(i) for i in ids]))

    def pieces(self) -> list[str]:
        """The piece of each id."""
        return [self._processor.id_to_piece(i) for i in range(self.vocab_size)]

    def files(self) -> dict[str, bytes]:
        """The model, as ``tokenizer.model``."""
        return {MODEL_FILE: self._model}

    def save(self, directory: str | Path) -> None:
        """Write the model into a directory."""
        write_files(self.files(), directory)
