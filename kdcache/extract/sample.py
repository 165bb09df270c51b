"""Which utterances of a corpus the teacher hears before a cache is begun.

The corpus, by duration, is cut into as many parts as utterances are wanted, and of each part
the utterance whose id has the least hash is taken: short and long ones as often as there are
any, whatever the order of the manifest, and the same ones every time.
"""

from __future__ import annotations

from hashlib import sha256
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from kdcache.corpus.table import UtteranceTable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcache.types import Utterance


def sample_of(corpus: Sequence[Utterance], count: int) -> list[Utterance]:
    """``count`` utterances, or all of a corpus that has no more; in order of the hash.

    Any first part of what is returned is a sample as well, if a smaller one.
    """
    table = UtteranceTable.of(corpus)
    count = min(count, len(table))
    hash_N4 = _hashes(table)
    words = tuple(hash_N4[:, word] for word in (3, 2, 1, 0))  # the last key counts first
    ranked_N = np.lexsort((*words, table.durations))
    edges = [part * len(table) // count for part in range(count + 1)]
    parts = (ranked_N[start:stop].tolist() for start, stop in pairwise(edges))

    def hash_of(row: int) -> tuple[int, ...]:
        return tuple(hash_N4[row].tolist())

    chosen = sorted((min(part, key=hash_of) for part in parts), key=hash_of)
    return [corpus[row] for row in chosen]


def _hashes(table: UtteranceTable) -> np.ndarray:
    """uint64 (N, 4): SHA-256 of each id, as numbers in the same order."""
    digests = bytearray()
    for chunk in table.ids.chunks:
        for name in chunk:
            digests += sha256(name.as_py().encode()).digest()
    return np.frombuffer(digests, ">u8").reshape(-1, 4).astype(np.uint64)
