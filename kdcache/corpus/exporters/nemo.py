"""A NeMo manifest of pseudo-labels: what a teacher wrote, in the place of the transcript."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from kdcache.corpus.manifest import to_row

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from kdcache.types import Utterance


@dataclass(frozen=True, slots=True)
class Pseudo:
    """One utterance.

    Attributes:
        utterance: with the transcript of the corpus.
        text: what the teacher wrote.
        log_p: of that text, nats; ``None`` where it is not known.
        duration: seconds of audio, measured.
    """

    utterance: Utterance
    text: str
    log_p: float | None
    duration: float


def write_pseudo_labels(sink: IO[bytes], folder: Path, items: Iterable[Pseudo]) -> int:
    """Write JSON lines; returns how many.

    ``text`` is the teacher's, ``transcript`` the corpus', and ``log_prob`` the teacher's log
    P(text | audio) in nats. A ``duration`` that the corpus does not give is the measured one.

    Args:
        sink: a file open for writing.
        folder: audio below it is named relative to it.
        items: what to write, in this order.
    """
    count = 0
    for item in items:
        row = to_row(item.utterance, folder)
        row.setdefault("duration", item.duration * item.utterance.audio.speed)
        row |= {"text": item.text, "transcript": item.utterance.text}
        if item.log_p is not None:
            row["log_prob"] = item.log_p
        sink.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        count += 1
    return count
