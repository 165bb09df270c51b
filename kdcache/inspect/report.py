"""What a report of a cache tells: its summary, distributions, and utterances.

Distributions are over all utterances; of a large cache the table holds those of both ends of an
order, and a sample that is evenly spaced in order of id, so that a page about any cache is small.
"""

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
    from collections.abc import Sequence

    from kdcache.store import Cache

ENDS, SAMPLED = 400, 200
"""Utterances of each end of the order, and of the sample, in the table of a larger cache."""

ROWS = 2 * ENDS + SAMPLED
"""Utterances in the table at most."""


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
        sample: ids of some of the others to show, evenly spaced in order of id.
    """

    summary: CacheSummary
    histograms: tuple[Histogram, ...]
    order: Field
    columns: tuple[Field, ...]
    utterances: tuple[dict[str, Any], ...]
    worst: tuple[str, ...]
    best: tuple[str, ...]
    sample: tuple[str, ...] = ()


def read_report(cache: Cache, sort: str | None = None, top: int = 5, sample: int = 0) -> Report:
    """Read what a report tells; no shard is read.

    Args:
        cache: an open cache.
        sort: the field that orders utterances; kl, or duration where nothing was measured,
            unless given.
        top: utterances of each end to show in full.
        sample: of the others.

    Raises:
        ConfigError: there is no such field, or it is not of numbers.
    """
    fields = Fields(cache)
    order = fields.find(sort) if sort else _usual_order(fields)
    down = select(cache, None, order.name, ROWS).rows_N.tolist()
    up = select(cache, None, order.name, ROWS, ascending=True).rows_N.tolist()
    columns = _columns(fields, order)
    worst = down[:top]
    best = [row for row in up if row not in worst][:top]
    others = [row for row in evenly(len(cache), sample) if row not in {*worst, *best}]
    shapes = (histogram(fields, column) for column in columns if not column.is_text)
    ids = cache.catalogue_columns(["id"])["id"]
    return Report(
        summary=summarise(cache),
        histograms=tuple(shape for shape in shapes if shape is not None),
        order=order,
        columns=columns,
        utterances=tuple(_table(fields, (order, columns), (down, up), len(cache))),
        worst=tuple(ids[row].as_py() for row in worst),
        best=tuple(ids[row].as_py() for row in best),
        sample=tuple(ids[row].as_py() for row in others),
    )


def evenly(count: int, wanted: int) -> list[int]:
    """So many of the numbers below ``count``, or all, each in the middle of its share."""
    wanted = min(count, wanted)
    return [(2 * place + 1) * count // (2 * wanted) for place in range(wanted)]


def _table(
    fields: Fields,
    columns: tuple[Field, Sequence[Field]],
    ends: tuple[list[int], list[int]],
    count: int,
) -> list[dict[str, Any]]:
    """Rows in the table, those with most of the order's field first, without a value last."""
    (order, shown), (down, up) = columns, ends
    if count <= ROWS:
        return fields.take(np.array(down, np.int64), list(shown))
    chosen = sorted({*down[:ENDS], *up[:ENDS], *evenly(count, SAMPLED)})
    rows = fields.take(np.array(chosen, np.int64), list(shown))
    known = [row for row in rows if _is_number(row[order.name])]
    missing = [row for row in rows if not _is_number(row[order.name])]
    return [*sorted(known, key=lambda row: -row[order.name]), *missing]


def _is_number(value: float | None) -> bool:
    return value is not None and value == value  # no NaN


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
