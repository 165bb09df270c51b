"""Seeded randomness that depends on a key alone.

Every utterance draws from its own generator, keyed by seed, split and number, so that no
choice depends on the number of processes or on the utterances before it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")


def random_state(*key: str | int) -> np.random.RandomState:
    """A generator seeded by SHA-256 of the key.

    The legacy ``RandomState`` on purpose: numpy has frozen its stream (NEP 19), whereas
    that of ``Generator`` may change from release to release.
    """
    digest = hashlib.sha256("\x1f".join(map(str, key)).encode()).digest()
    return np.random.RandomState(np.frombuffer(digest, "<u4"))


def pick(rng: np.random.RandomState, items: Sequence[T]) -> T:
    """One item, all equally likely."""
    return items[rng.randint(len(items))]


def pick_early(rng: np.random.RandomState, items: Sequence[T]) -> T:
    """One item, the earlier the likelier: weight 1 / (rank + 8), a mild Zipf law."""
    weights = 1.0 / (np.arange(len(items)) + 8.0)
    return items[int(np.searchsorted(np.cumsum(weights), rng.random_sample() * weights.sum()))]
