"""Word error rate with a bootstrap interval.

The interval resamples groups with replacement (Bisani and Ney 2004): utterances, or
speakers where they are given, because a speaker's utterances are not independent.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import jiwer
import numpy as np

from kdcache.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class WordErrorRate:
    """Errors in a set of utterances.

    Attributes:
        wer: (substitutions + deletions + insertions) ÷ reference words.
        low, high: 95 % bootstrap interval of ``wer``.
        words: reference words.
        substitutions, deletions, insertions: counts.
    """

    wer: float
    low: float
    high: float
    words: int
    substitutions: int
    deletions: int
    insertions: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return asdict(self)


def word_error_rate(
    references: Sequence[str],
    hypotheses: Sequence[str],
    *,
    groups: Sequence[str] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> WordErrorRate:
    """Word error rate of ``hypotheses``, matched with ``references`` by position.

    Args:
        references, hypotheses: transcripts; words are what blanks separate.
        groups: a label each, such as the speaker; groups are resampled whole. Utterances
            are resampled if ``None``.
        resamples: bootstrap samples.
        seed: of the bootstrap.

    Raises:
        InputError: unequal lengths, or no reference word at all.
    """
    if len(references) != len(hypotheses):
        raise InputError(f"{len(references)} references and {len(hypotheses)} hypotheses.")
    counts_NE = np.array([count_errors(r, h) for r, h in zip(references, hypotheses, strict=True)])
    words_N = np.array([len(reference.split()) for reference in references])
    if words_N.sum() == 0:
        raise InputError("The references have no words; there is nothing to score.")
    rates = _bootstrap(counts_NE.sum(1), words_N, groups, resamples, seed)
    low, high = np.quantile(rates, [0.025, 0.975])
    substitutions, deletions, insertions = (int(n) for n in counts_NE.sum(0))
    total = int(words_N.sum())
    return WordErrorRate(
        wer=(substitutions + deletions + insertions) / total,
        low=float(low),
        high=float(high),
        words=total,
        substitutions=substitutions,
        deletions=deletions,
        insertions=insertions,
    )


def count_errors(reference: str, hypothesis: str) -> tuple[int, int, int]:
    """Substitutions, deletions and insertions of one utterance."""
    if not reference.split():  # jiwer refuses an empty reference; every word is inserted
        return 0, 0, len(hypothesis.split())
    result = jiwer.process_words(reference, hypothesis)
    return result.substitutions, result.deletions, result.insertions


def _bootstrap(
    errors_N: np.ndarray,
    words_N: np.ndarray,
    groups: Sequence[str] | None,
    resamples: int,
    seed: int,
) -> np.ndarray:
    """Word error rates of resampled groups; a sample without words is left out."""
    labels = np.arange(len(errors_N)) if groups is None else np.asarray(groups)
    _, group_N = np.unique(labels, return_inverse=True)
    errors_G = np.bincount(group_N, errors_N)
    words_G = np.bincount(group_N, words_N)
    random = np.random.RandomState(seed)
    drawn_RG = random.randint(0, len(words_G), size=(resamples, len(words_G)))
    words_R = words_G[drawn_RG].sum(1)
    rates: np.ndarray = errors_G[drawn_RG].sum(1)[words_R > 0] / words_R[words_R > 0]
    return rates
