"""What a report of a cache tells: its summary, distributions, and utterances at both ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kdcache.errors import ConfigError
from kdcache.inspect.fields import NUMBERS, Field, Fields
from kdcache.inspect.histogram import Histogram, histogram
from kdcache.inspect.select import select
from kdcache.inspect.summary import CacheSummary, summarise

if TYPE_CHECKING:
    from kdcache.store import Cache

ROWS = 1000
"""Utterances in the table at most: half from each end of the order."""


@dataclass(frozen=True, slots=True)
class Report:
    """Of one cache.

    Attributes:
        summary: of the cache.
        histograms: of durations, labels and divergences.
        order: the field that says which utterances are worst: those that have most of it.
        columns: fields of the table.
        utterances: rows of the table, by field; ``None`` where one has no value.
        worst, best: ids of those to show in full, the most extreme first; none is in both.
    """

    summary: CacheSummary
    histograms: tuple[Histogram, ...]
    order: Field
    columns: tuple[Field, ...]
    utterances: tuple[dict[str, Any], ...]
    worst: tuple[str, ...]
    best: tuple[str, ...]


def read_report(cache: Cache, sort: str | None = None, top: int = 5) -> Report:
    """Read what a report tells; no shard is read.

    Args:
        cache: an open cache.
        sort: the field that orders utterances; kl, or duration where nothing was measured,
            unless given.
        top: utterances of each end to show in full.

    Raises:
        ConfigError: there is no such field, or it is not of numbers.
    """
    fields = Fields(cache)
    order = fields.find(sort) if sort else _usual_order(fields)
    down = select(cache, None, order.name, ROWS).rows_N.tolist()
    up = select(cache, None, order.name, ROWS, ascending=True).rows_N.tolist()
    half = ROWS // 2
    rows = down if len(cache) <= ROWS else list(dict.fromkeys([*down[:half], *up[:half][::-1]]))
    columns = _columns(fields, order)
    ids = cache.catalogue_columns(["id"])["id"]
    worst = down[:top]
    best = [row for row in up if row not in worst][:top]
    shapes = (histogram(fields, column) for column in columns if not column.is_text)
    return Report(
        summary=summarise(cache),
        histograms=tuple(shape for shape in shapes if shape is not None),
        order=order,
        columns=columns,
        utterances=tuple(fields.take(np.array(rows, np.int64), list(columns))),
        worst=tuple(ids[row].as_py() for row in worst),
        best=tuple(ids[row].as_py() for row in best),
    )


def _usual_order(fields: Fields) -> Field:
    try:
        return fields.find("kl")
    except ConfigError:  # nothing was measured
        return fields.find("duration")


def _columns(fields: Fields, order: Field) -> tuple[Field, ...]:
    """Id, numbers, measures of divergence, speaker and text."""
    means = [name for name in fields.names if name.endswith("kl_mean") and name not in NUMBERS]
    names = ["id", "duration", "labels", *means, order.name, "speaker", "text"]
    return tuple(fields.find(name) for name in dict.fromkeys(names))
