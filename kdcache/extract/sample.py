"""Which utterances of a corpus the teacher hears before a cache is begun.

The corpus, by duration, is cut into as many parts as utterances are wanted, and of each part
the utterance whose id has the least hash is taken: short and long ones as often as there are
any, whatever the order of the manifest, and the same ones every time.
"""

from __future__ import annotations

from hashlib import sha256
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcache.types import Utterance


def sample_of(corpus: Sequence[Utterance], count: int) -> list[Utterance]:
    """``count`` utterances, or all of a corpus that has no more; in order of the hash.

    Any first part of what is returned is a sample as well, if a smaller one.
    """
    count = min(count, len(corpus))
    ranked = sorted(corpus, key=lambda u: (u.duration, _hash(u)))
    edges = [part * len(ranked) // count for part in range(count + 1)]
    parts = (ranked[start:stop] for start, stop in pairwise(edges))
    return sorted((min(part, key=_hash) for part in parts), key=_hash)


def _hash(utterance: Utterance) -> bytes:
    return sha256(utterance.id.encode()).digest()
