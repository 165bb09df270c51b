"""The text of label ids, by the tokenizer that a cache carries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdcache.cli.plumbing import say
from kdcache.errors import TokenizerError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kdcache.store import Cache


def speller(cache: Cache) -> Callable[[Sequence[int]], str]:
    """How to spell; where the tokenizer cannot be loaded, in numbers, which is said."""
    from kdcache.corpus.tokenizer import load_tokenizer

    try:
        tokenizer = load_tokenizer(cache.tokenizer_dir)
    except TokenizerError as error:
        say(f"Labels are shown as numbers: {error.message}")
        return lambda ids: "".join(f"#{label}" for label in ids)
    # A teacher may have classes beyond its tokenizer's.
    size = tokenizer.vocab_size
    return lambda ids: tokenizer.decode([label for label in ids if 0 <= label < size])
