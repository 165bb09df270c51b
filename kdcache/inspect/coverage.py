"""How much of a corpus is in a cache."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kdcache.store import Cache
    from kdcache.types import Utterance


@dataclass(frozen=True, slots=True)
class Coverage:
    """A corpus against a cache; the four counts are of the corpus' utterances.

    Attributes:
        utterances: all of them.
        cached: in the cache.
        failed: recorded there as unusable.
        waiting: not yet tried.
        waiting_hours: of audio of those, as far as the manifest tells.
    """

    utterances: int
    cached: int
    failed: int
    waiting: int
    waiting_hours: float

    @property
    def complete(self) -> bool:
        """Whether every utterance is in the cache."""
        return self.cached == self.utterances

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {**asdict(self), "complete": self.complete}


def measure_coverage(cache: Cache, corpus: Iterable[Utterance]) -> Coverage:
    """Compare ids; what the cache holds beyond the corpus does not count."""
    unusable = set(cache.failures["id"].to_pylist())
    utterances = cached = failed = 0
    waiting: list[Utterance] = []
    for utterance in corpus:
        utterances += 1
        if utterance.id in cache:
            cached += 1
        elif utterance.id in unusable:
            failed += 1
        else:
            waiting.append(utterance)
    hours = sum(utterance.duration for utterance in waiting) / 3600
    return Coverage(utterances, cached, failed, len(waiting), hours)
