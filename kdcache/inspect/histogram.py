"""How one field is distributed over the utterances of a cache of any size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kdcache.inspect.fields import Field, Fields

BINS = 24


@dataclass(frozen=True, slots=True)
class Histogram:
    """Of one field.

    Attributes:
        name: of the field.
        counts: utterances in each of ``BINS`` bins of equal width.
        least, most: where the first begins and the last ends.
        missing: utterances without a finite value.
    """

    name: str
    counts: tuple[int, ...]
    least: float
    most: float
    missing: int


def histogram(fields: Fields, field: Field) -> Histogram | None:
    """Count, block by block; ``None`` where no utterance has a value."""
    least, most, seen, total = np.inf, -np.inf, 0, 0
    for size, values_N in _values(fields, field):
        least = min(least, float(values_N.min(initial=np.inf)))
        most = max(most, float(values_N.max(initial=-np.inf)))
        seen, total = seen + len(values_N), total + size
    if not seen:
        return None
    counts = np.zeros(BINS, np.int64)
    if most <= least:  # all are the same: bins need some width
        most = least + 1.0
    for _, values_N in _values(fields, field):
        counts += np.histogram(values_N, BINS, (least, most))[0]
    return Histogram(field.name, tuple(counts.tolist()), least, most, total - seen)


def _values(fields: Fields, field: Field) -> Iterator[tuple[int, np.ndarray]]:
    """Rows of each block, and the finite values among them."""
    for _, block in fields.blocks([field]):
        values_N = block[field.name].to_numpy().astype(np.float64)
        yield len(values_N), values_N[np.isfinite(values_N)]
