"""The denominator that a run's loss names, checked before anything starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdcache.errors import TokenizerError

if TYPE_CHECKING:
    from kdcache.corpus.tokenizer import Tokenizer
    from kdcache.train.settings import LossSettings


def check_denominator(loss: LossSettings, tokenizer: Tokenizer) -> None:
    """Read it, where there is one, and compare its labels with the run's.

    Raises:
        InputError: the file holds none.
        TokenizerError: it was made with another tokenizer.
    """
    if loss.denominator is None:
        return
    from kdcache.loss import load_ngram

    ngram = load_ngram(loss.denominator)
    if ngram.tokenizer != tokenizer.fingerprint or ngram.labels != tokenizer.vocab_size:
        raise TokenizerError(
            f"{loss.denominator} is of a tokenizer with {ngram.labels} tokens "
            f"({ngram.tokenizer[:12]}), the data's has {tokenizer.vocab_size} "
            f"({tokenizer.fingerprint[:12]}); make the denominator with the data's tokenizer."
        )
