"""What both beam searches share: adding probabilities, and which label sequences stay.

Ties are broken by the labels themselves, as tuples are ordered, so that a search depends on
nothing but its scores.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

Labels = tuple[int, ...]

IMPOSSIBLE = -math.inf


def log_add(a: float, b: float) -> float:
    """ln(e^a + e^b)."""
    if a < b:
        a, b = b, a
    return a if b == IMPOSSIBLE else a + math.log1p(math.exp(b - a))


def best(scores: Mapping[Labels, float], count: int) -> list[Labels]:
    """At most ``count`` label sequences of probability above 0, the most probable first."""
    possible = [labels for labels, score in scores.items() if score > IMPOSSIBLE]
    return sorted(possible, key=lambda labels: (-scores[labels], labels))[:count]


def lowest_kept(scores: Mapping[Labels, float], count: int) -> float:
    """The score below which nothing new comes among the best ``count``."""
    if len(scores) < count:
        return IMPOSSIBLE
    return sorted(scores.values(), reverse=True)[count - 1]
