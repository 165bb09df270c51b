"""Fill in durations that a corpus does not tell, from the headers of its audio."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from kdcache.corpus.audio import read_header
from kdcache.errors import AudioError

if TYPE_CHECKING:
    from kdcache.types import Utterance

THREADS = 8
"""Reading headers waits for the disk or the network, not for the processor."""


def with_durations(utterances: list[Utterance]) -> list[Utterance]:
    """The same utterances, in order; those without a duration get what is left of their file.

    Where a header cannot be read, the duration stays unknown.
    """
    paths = sorted({u.audio.path for u in utterances if u.audio.duration is None})
    with ThreadPoolExecutor(THREADS) as pool:
        lengths = dict(zip(paths, pool.map(_length, paths), strict=True))
    return [_filled(utterance, lengths.get(utterance.audio.path)) for utterance in utterances]


def _length(path: str) -> float | None:
    try:
        return read_header(path).duration
    except AudioError:
        return None


def _filled(utterance: Utterance, length: float | None) -> Utterance:
    audio = utterance.audio
    if audio.duration is not None or length is None or length <= audio.offset:
        return utterance
    return replace(utterance, audio=replace(audio, duration=round(length - audio.offset, 6)))
