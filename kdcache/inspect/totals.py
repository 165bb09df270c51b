"""Figures of one target over a whole catalogue, added up in blocks of rows.

Shapes: M rows of a block, A axes of an array.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kdcache.inspect.fields import BLOCK, DIVERGENCES, FIDELITY
from kdcache.inspect.select import Best
from kdcache.inspect.tally import Tally

if TYPE_CHECKING:
    from kdcache.store import Cache
    from kdcache.types import TargetSpec

WORST = 3
"""Utterances that are named."""

MEASURES = (*DIVERGENCES, "error_relative", "error_mean", "nats_per_label", "mass_outside")
"""What tells an utterance's loss in one figure; of those that there are the first."""

_ROWS_COLUMNS = ("logp", "values", "codes", "scores")


@dataclass(frozen=True, slots=True)
class Spread:
    """How one measure differs between utterances.

    Attributes:
        measure: its name.
        p99: the 99th percentile of the utterances, no less than it is and at most 1 % more.
        worst: row and value of those that have most of it, the worst first.
    """

    measure: str
    p99: float
    worst: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Totals:
    """Of one target.

    Attributes:
        bytes: of its columns' contents.
        fidelity: by measure: the largest of those named ``…_max``, of others the mean over rows
            of the target (frames, nodes, tokens, or utterances).
        spread: of its first measure; ``None`` where nothing was measured.
    """

    bytes: int
    fidelity: dict[str, float]
    spread: Spread | None


def add_up(cache: Cache, target: TargetSpec) -> Totals:
    """Read a target's columns of the catalogue; no shard is read."""
    counter = _Counter(cache, target)
    rows = cache.catalogue_columns(counter.columns)
    for start in range(0, rows.num_rows, BLOCK):
        counter.add(start, rows.slice(start, BLOCK))
    return counter.result()


def column_bytes(cache: Cache, name: str) -> int:
    """Bytes of one column's contents in all utterances."""
    shapes = cache.catalogue_columns([f"shape.{name}"])
    itemsize = np.dtype(cache.columns[name].dtype).itemsize
    starts = range(0, shapes.num_rows, BLOCK)
    blocks = (shapes.slice(start, BLOCK)[f"shape.{name}"] for start in starts)
    return sum(_elements(block, cache.columns[name].ndim) for block in blocks) * itemsize


class _Counter:
    """One target's figures so far."""

    def __init__(self, cache: Cache, target: TargetSpec) -> None:
        prefix = f"{FIDELITY}{target.name}."
        self._target = target
        self._arrays = {
            name: spec for name, spec in cache.columns.items() if name.startswith(f"{target.name}.")
        }
        self._measures = sorted(
            name.removeprefix(prefix) for name in cache.catalogue_names if name.startswith(prefix)
        )
        self._measure = next((name for name in MEASURES if name in self._measures), None)
        self._bytes = 0
        self._sums: dict[str, float] = defaultdict(float)
        self._weights: dict[str, float] = defaultdict(float)
        self._tally = Tally()
        self._worst = Best(WORST, ascending=False)

    @property
    def columns(self) -> list[str]:
        """Of the catalogue, that are needed."""
        measures = [self._column(measure) for measure in self._measures]
        return ["frames", "tokens", *(f"shape.{name}" for name in self._arrays), *measures]

    def add(self, start: int, rows: pa.Table) -> None:
        """Take rows into account, of which the first is row ``start`` of the catalogue."""
        for name, spec in self._arrays.items():
            elements = _elements(rows[f"shape.{name}"], spec.ndim)
            self._bytes += elements * np.dtype(spec.dtype).itemsize
        weights_M = self._row_counts(rows) if self._measures else np.empty(0)
        for measure in self._measures:
            values_M = rows[self._column(measure)].cast(pa.float64()).to_numpy()
            self._add_measure(measure, values_M, weights_M)
            if measure == self._measure:
                known_M = np.flatnonzero(~np.isnan(values_M))
                self._tally.add(values_M[known_M])
                self._worst.add(start + known_M, values_M[known_M])

    def result(self) -> Totals:
        """All figures."""
        fidelity = {
            name: self._sums[name] / (1.0 if name.endswith("_max") else self._weights[name])
            for name in self._measures
            if self._weights[name]
        }
        spread = None
        if self._measure is not None and (p99 := self._tally.percentile) is not None:
            pairs = zip(self._worst.rows().tolist(), self._worst.keys().tolist(), strict=True)
            spread = Spread(self._measure, p99, tuple(pairs))
        return Totals(self._bytes, fidelity, spread)

    def _column(self, measure: str) -> str:
        return f"{FIDELITY}{self._target.name}.{measure}"

    def _add_measure(self, name: str, values_M: np.ndarray, weights_M: np.ndarray) -> None:
        measured_M = ~np.isnan(values_M)
        if not measured_M.any():
            return
        if name.endswith("_max"):
            largest = float(values_M[measured_M].max())
            self._sums[name] = max(self._sums[name], largest) if self._weights[name] else largest
            self._weights[name] = 1.0
        else:
            self._sums[name] += float((values_M[measured_M] * weights_M[measured_M]).sum())
            self._weights[name] += float(weights_M[measured_M].sum())

    def _row_counts(self, rows: pa.Table) -> np.ndarray:
        """Nodes, frames or tokens of each utterance, 1 of what is said of it as a whole.

        Where no shape tells: tokens and an end for a decoder's posteriors, these times encoder
        frames for whole lattices, else encoder frames, as a band is about as wide in every
        utterance.
        """
        target = self._target
        for array in _ROWS_COLUMNS:
            name = f"{target.name}.{array}"
            if name in self._arrays:
                return _row_counts_of(rows[f"shape.{name}"], self._arrays[name].ndim)
        frames_M: np.ndarray = rows["frames"].to_numpy().astype(np.float64)
        lengths_M = pc.list_value_length(rows["tokens"]).to_numpy()
        columns_M: np.ndarray = lengths_M.astype(np.float64) + 1
        if target.kind == "decoder_logits":
            return columns_M
        whole = target.record == "lattice" and not {"epsilon", "width"} & target.settings.keys()
        return frames_M * columns_M if whole else frames_M


def _shapes(column: pa.ChunkedArray, ndim: int) -> np.ndarray:
    """Shapes of those that have the array: int64 (…, A)."""
    values = pc.list_flatten(column).to_numpy()
    shapes: np.ndarray = values.astype(np.int64).reshape(-1, ndim)
    return shapes


def _elements(column: pa.ChunkedArray, ndim: int) -> int:
    return int(_shapes(column, ndim).prod(axis=1).sum())


def _row_counts_of(column: pa.ChunkedArray, ndim: int) -> np.ndarray:
    """What all axes but the last make, 0 where the array is missing: float64 (M,)."""
    counts_M = np.zeros(len(column))
    present_M = pc.is_valid(column).to_numpy()
    counts_M[present_M] = _shapes(column, ndim)[:, :-1].prod(axis=1)
    return counts_M
