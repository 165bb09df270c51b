"""What one trained model got wrong, utterance by utterance: a file that comparisons read.

Whatever decodes (a student, a second pass, a stream of chunks) writes one of these; the
comparison of arms knows nothing else of it.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from kdcache.errors import InputError
from kdcache.score.wer import count_errors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from kdcache.types import Utterance


@dataclass(frozen=True, slots=True)
class ErrorCounts:
    """One model's errors.

    Attributes:
        labels: what sort of model it is, such as ``{"arm": "distilled", "seed": 0}``.
        ids: of the utterances, sorted.
        groups: of each, its speaker; the utterance itself where that is not known.
        words, errors: of each, reference words, and substitutions, deletions and insertions.
        figures: other numbers by name, such as ``parameters``.
        hypotheses: texts by id.
    """

    labels: dict[str, Any]
    ids: tuple[str, ...]
    groups: tuple[str, ...]
    words: tuple[int, ...]
    errors: tuple[int, ...]
    figures: dict[str, float] = field(default_factory=dict)
    hypotheses: dict[str, str] = field(default_factory=dict)

    @property
    def wer(self) -> float:
        """Errors ÷ reference words."""
        return sum(self.errors) / sum(self.words)


def count_all(
    utterances: Sequence[Utterance],
    hypotheses: Mapping[str, str],
    labels: Mapping[str, Any],
    figures: Mapping[str, float],
) -> ErrorCounts:
    """Compare hypotheses with transcripts.

    Args:
        utterances: with transcripts.
        hypotheses: of all of them, by id.
        labels, figures: see ``ErrorCounts``.

    Raises:
        InputError: the transcripts have no words.
    """
    ordered = sorted(utterances, key=lambda u: u.id)
    words = tuple(len(u.text.split()) for u in ordered)
    if not sum(words):
        raise InputError("The transcripts have no words; there is nothing to compare with.")
    return ErrorCounts(
        labels=dict(labels),
        ids=tuple(u.id for u in ordered),
        groups=tuple(u.speaker or u.id for u in ordered),
        words=words,
        errors=tuple(sum(count_errors(u.text, hypotheses[u.id])) for u in ordered),
        figures=dict(figures),
        hypotheses={u.id: hypotheses[u.id] for u in ordered},
    )


def write_counts(path: Path, counts: ErrorCounts) -> None:
    """Write the file, at once or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    text = json.dumps(asdict(counts), indent=1, ensure_ascii=False) + "\n"
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def read_counts(path: Path) -> ErrorCounts:
    """Read what :func:`write_counts` wrote.

    Raises:
        InputError: it is not that.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        lists = {name: tuple(values[name]) for name in ("ids", "groups", "words", "errors")}
        return ErrorCounts(**{**values, **lists})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{path} holds no error counts ({type(error).__name__}); a stage of kind score "
            "writes such a file."
        ) from error
