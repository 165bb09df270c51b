"""Train a SentencePiece tokenizer on the transcripts of a corpus."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

from kdcache.corpus.sentencepiece_tokenizer import SentencePieceTokenizer
from kdcache.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

MODEL_TYPES = ("unigram", "bpe", "char")


def train_sentencepiece(
    texts: Iterable[str], vocab_size: int, model_type: str = "unigram", seed: int = 0
) -> SentencePieceTokenizer:
    """Train a SentencePiece model; the same texts in the same order give the same bytes.

    Every character of the texts is in the vocabulary; id 0 is the unknown piece, and there
    are no pieces for begin, end or padding.

    Args:
        texts: the transcripts.
        vocab_size: pieces, the unknown piece among them; of ``char`` the most that there
            may be, as every character is one piece and nothing else is.
        model_type: ``unigram``, ``bpe`` or ``char``.
        seed: of SentencePiece's random numbers.

    Raises:
        ConfigError: there is no text, or it cannot give that many pieces.
    """
    import sentencepiece

    if model_type not in MODEL_TYPES:
        raise ConfigError(f"Got model type {model_type!r}, expected {', '.join(MODEL_TYPES)}.")
    lines = [text for text in texts if text.strip()]
    if not lines:
        raise ConfigError("Every transcript is empty; a tokenizer needs text to learn from.")
    if model_type == "char" and vocab_size < _fewest_pieces(lines):
        raise _impossible(vocab_size, lines, reason="")
    sentencepiece.set_random_generator_seed(seed)
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_writer=model, vocab_size=vocab_size,
            model_type=model_type, num_threads=1, shuffle_input_sentence=False,
            character_coverage=1.0, byte_fallback=False, unk_id=0, bos_id=-1, eos_id=-1,
            pad_id=-1, normalization_rule_name="identity", minloglevel=2,
            hard_vocab_limit=model_type != "char",
            max_sentence_length=max(10, *(len(line.encode()) + 1 for line in lines)),
        )  # fmt: skip
    except (RuntimeError, OSError) as error:
        raise _impossible(vocab_size, lines, str(error)) from error
    return SentencePieceTokenizer(model.getvalue())


def _impossible(vocab_size: int, lines: list[str], reason: str) -> ConfigError:
    """What was asked and what is possible; of the maximum, SentencePiece's message tells."""
    most = re.search(r"too high.*<=\s*(\d+)\.", reason)
    fewest = _fewest_pieces(lines)
    if most:
        bound = f"at most {most.group(1)}"
    elif vocab_size < fewest:
        bound = f"at least {fewest}"
    else:
        bound = f"something that SentencePiece can train ({reason.strip()})"
    return ConfigError(
        f"Got a vocabulary of {vocab_size} pieces, expected {bound} for these "
        f"{len(lines)} transcripts."
    )


def _fewest_pieces(lines: list[str]) -> int:
    """One for each character, a blank being the word mark, and one for the unknown piece."""
    return len({*"".join(lines), " "}) + 1
