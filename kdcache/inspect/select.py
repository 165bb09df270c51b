"""Which utterances of a cache: those of a condition, and the first of them in an order.

Shapes: N rows that are found, M rows of a block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from kdcache.errors import ConfigError
from kdcache.inspect.fields import Fields
from kdcache.inspect.where import parse_where

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kdcache.inspect.fields import Field
    from kdcache.inspect.where import Where
    from kdcache.store import Cache


@dataclass(frozen=True, slots=True)
class Selection:
    """What was found.

    Attributes:
        rows_N: int64 rows of the catalogue, in the order that was asked for; of the utterances
            found, the first ``top``.
        found: how many utterances fulfil the condition.
        hours: of their audio.
        order: the field that they are sorted by; ``None`` where that is their id.
    """

    rows_N: np.ndarray
    found: int
    hours: float
    order: Field | None = None


def select(
    cache: Cache,
    where: str | None = None,
    sort: str | None = None,
    top: int | None = None,
    *,
    ascending: bool = False,
) -> Selection:
    """Find utterances; of a large catalogue only the columns that are asked for are read.

    Args:
        cache: an open cache.
        where: a condition (``kdcache.inspect.where``); all unless given.
        sort: a field of numbers, the largest first; equal ones, and all unless it is given, are
            in order of id. Those without a value come last.
        top: how many rows to give; all unless given.
        ascending: the smallest first.

    Raises:
        ConfigError: there is no such field, or ``where`` is no condition.
    """
    fields = Fields(cache)
    order = fields.find(sort) if sort else None
    if order is not None and order.is_text:
        raise ConfigError(
            f"--sort takes a field of numbers, such as duration or kl, got {sort!r}, a text."
        )
    best = Best(top, ascending)
    found, seconds = 0, 0.0
    duration = fields.find("duration")
    wanted = [duration] if order is None else [duration, order]
    for start, block, at_M in matching(fields, where, wanted):
        found += len(at_M)
        seconds += float(np.nansum(_numbers(block, duration)[at_M]))
        keys_M = np.zeros(len(at_M)) if order is None else _numbers(block, order)[at_M]
        best.add(start + at_M, keys_M)
    return Selection(best.rows(), found, seconds / 3600, order)


def matching_rows(cache: Cache, where: str | None = None) -> Iterator[np.ndarray]:
    """Rows that fulfil a condition, in order of id: int64, block by block as they are found.

    Raises:
        ConfigError: ``where`` is no condition on this cache's fields.
    """
    fields = Fields(cache)
    found = matching(fields, where, [] if where else [fields.find("duration")])
    return (start + at_M for start, _, at_M in found)


def matching(
    fields: Fields, where: str | None, wanted: list[Field]
) -> Iterator[tuple[int, pa.Table, np.ndarray]]:
    """First row, values of ``wanted``, and int64 places of matching rows, block by block.

    Raises:
        ConfigError: ``where`` is no condition; at once, before the first block is asked for.
    """
    condition = parse_where(where, fields) if where is not None else None
    asked = {field.name: field for field in (*wanted, *(condition.fields if condition else ()))}
    return _filtered(fields, condition, list(asked.values()))


def _filtered(
    fields: Fields, condition: Where | None, asked: list[Field]
) -> Iterator[tuple[int, pa.Table, np.ndarray]]:
    # A condition without any field, such as 1 < 2, still has to be asked row by row.
    for start, block in fields.blocks(asked or [fields.find("duration")]):
        places_M = np.arange(block.num_rows)
        if condition is not None:
            table = block.append_column("", pa.array(places_M))
            places_M = table.filter(condition.expression)[""].to_numpy()
        yield start, block, places_M


def _numbers(block: pa.Table, field: Field) -> np.ndarray:
    values_M: np.ndarray = block[field.name].to_numpy()
    return values_M


class Best:
    """The first rows in the order of their keys, kept while blocks go by."""

    def __init__(self, top: int | None, ascending: bool) -> None:
        self._top, self._sign = top, 1.0 if ascending else -1.0
        self._rows: list[np.ndarray] = []
        self._keys: list[np.ndarray] = []

    def add(self, rows_M: np.ndarray, keys_M: np.ndarray) -> None:
        """Take rows into account; rows only grow from call to call."""
        self._rows.append(rows_M)
        self._keys.append(self._sign * keys_M)
        if self._top is not None:
            self._rows, self._keys = ([x[: self._top]] for x in self._sorted())

    def rows(self) -> np.ndarray:
        """int64 (N,), in order."""
        return self._sorted()[0]

    def keys(self) -> np.ndarray:
        """float64 (N,), of these rows."""
        return self._sign * self._sorted()[1]

    def _sorted(self) -> tuple[np.ndarray, np.ndarray]:
        rows_N = np.concatenate([np.empty(0, np.int64), *self._rows])
        keys_N = np.concatenate([np.empty(0), *self._keys])
        if self._top is not None and len(keys_N) > 4 * self._top > 0:
            # Only what is not beyond the last one that counts has to be put in order.
            last = np.partition(keys_N, self._top - 1)[self._top - 1]
            near_N = np.ones(len(keys_N), bool) if np.isnan(last) else keys_N <= last
            rows_N, keys_N = rows_N[near_N], keys_N[near_N]
        order_N = np.argsort(keys_N, kind="stable")
        return rows_N[order_N], keys_N[order_N]
