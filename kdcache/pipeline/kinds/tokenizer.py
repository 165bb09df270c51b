"""``tokenizer``: a SentencePiece model of a manifest's transcripts. Output: ``tokenizer``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from kdcache.config import ConfigPath, Settings
from kdcache.corpus import read_manifest, train_sentencepiece
from kdcache.pipeline.kind import StageKind

if TYPE_CHECKING:
    from pathlib import Path

    from kdcache.pipeline.kind import Work


class TokenizerSettings(Settings):
    """What it is made of."""

    corpus: ConfigPath
    """The manifest."""

    vocabulary: int = Field(ge=2)
    """Pieces, the unknown piece among them."""

    model_type: str = "unigram"
    """``unigram``, ``bpe`` or ``char``."""

    seed: int = 0
    """Of SentencePiece's random numbers."""


class TokenizerKind(StageKind[TokenizerSettings]):
    """Train a tokenizer."""

    model = TokenizerSettings

    def outputs(self, settings: TokenizerSettings, place: Path) -> dict[str, Path]:
        """Its folder."""
        return {"tokenizer": place / "tokenizer"}

    def run(self, settings: TokenizerSettings, work: Work) -> dict[str, Any]:
        """Train and save it; how many pieces it has."""
        texts = [utterance.text for utterance in read_manifest(settings.corpus)]
        tokenizer = train_sentencepiece(
            texts, settings.vocabulary, settings.model_type, settings.seed
        )
        tokenizer.save(work.place / "tokenizer")
        return {"vocab_size": tokenizer.vocab_size}
