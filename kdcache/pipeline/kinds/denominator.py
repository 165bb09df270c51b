"""``denominator``: an n-gram of a manifest's transcripts, for LF-MMI. Output: ``denominator``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from kdcache.config import ConfigPath, Settings
from kdcache.corpus import load_tokenizer, read_manifest
from kdcache.loss import denominator_of, estimate_ngram, save_ngram
from kdcache.pipeline.kind import StageKind

if TYPE_CHECKING:
    from pathlib import Path

    from kdcache.pipeline.kind import Work


class DenominatorSettings(Settings):
    """What it is estimated from."""

    corpus: ConfigPath
    """The manifest; those of its utterances count that have a transcript."""

    tokenizer: ConfigPath
    """The tokenizer whose ids the labels are."""

    order: int = Field(default=2, ge=1, le=3)
    """Labels that are looked at together."""


class DenominatorKind(StageKind[DenominatorSettings]):
    """Estimate and save it."""

    model = DenominatorSettings

    def outputs(self, settings: DenominatorSettings, place: Path) -> dict[str, Path]:
        """Its file."""
        return {"denominator": place / "denominator.npz"}

    def run(self, settings: DenominatorSettings, work: Work) -> dict[str, Any]:
        """Estimate and save; how many states its graph has."""
        tokenizer = load_tokenizer(settings.tokenizer)
        texts = [utterance.text for utterance in read_manifest(settings.corpus)]
        sequences = [tokenizer.encode(text) for text in texts if text.strip()]
        labels = tokenizer.vocab_size
        ngram = estimate_ngram(sequences, labels, settings.order, tokenizer.fingerprint)
        save_ngram(ngram, work.place / "denominator.npz")
        return {"states": len(denominator_of(ngram).end_S), "transcripts": len(sequences)}
