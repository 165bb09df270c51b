"""Utterances as columns: a corpus of millions in little memory.

A Python object for each of a million utterances takes some 550 MB. As columns they take the
bytes of their ids, paths and texts, and ``ROW_BYTES`` each; objects are made of those that are
looked at, and go again. N is the number of utterances.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, overload

import pyarrow as pa
import pyarrow.compute as pc

from kdcache.corpus.manifest import iter_filled, refuse_repeated
from kdcache.types import AudioRef, Utterance

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import numpy as np

ROW_BYTES = 64
"""Of a row besides its characters: where they begin in four columns, three numbers, and bits."""

_CHUNK = 8192
"""Rows that are gathered, or looked at, as objects at a time."""

_SCHEMA = pa.schema(
    [
        ("id", pa.large_string()),
        ("path", pa.large_string()),
        ("text", pa.large_string()),
        ("speaker", pa.large_string()),
        ("offset", pa.float64()),
        ("duration", pa.float64()),
        ("speed", pa.float64()),
    ]
)


class UtteranceTable(Sequence[Utterance]):
    """A sequence of utterances that holds none of them as an object. Numbers come back as floats,
    as manifests give them."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    @classmethod
    def of(cls, utterances: Iterable[Utterance]) -> UtteranceTable:
        """Gather them, some thousand at a time; a table is returned as it is."""
        if isinstance(utterances, UtteranceTable):
            return utterances
        rows = iter(utterances)
        chunks = iter(lambda: list(islice(rows, _CHUNK)), [])
        return cls(pa.Table.from_batches(map(_to_batch, chunks), _SCHEMA))

    @property
    def ids(self) -> pa.ChunkedArray:
        """Large strings (N,)."""
        return self._table["id"]

    @property
    def texts(self) -> pa.ChunkedArray:
        """Large strings (N,)."""
        return self._table["text"]

    @property
    def durations(self) -> np.ndarray:
        """float64 (N,): seconds to be heard, 0.0 where the manifest does not say."""
        seconds = pc.divide(pc.fill_null(self._table["duration"], 0.0), self._table["speed"])
        durations_N: np.ndarray = seconds.to_numpy()
        return durations_N

    @property
    def nbytes(self) -> int:
        """Bytes of all columns."""
        return int(self._table.nbytes)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    @overload
    def __getitem__(self, index: int) -> Utterance: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Utterance, ...]: ...

    def __getitem__(self, index: int | slice) -> Utterance | tuple[Utterance, ...]:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            assert step == 1, "rows are cut out in one piece"
            return tuple(_to_utterances(self._table.slice(start, max(0, stop - start))))
        row = range(len(self))[index]
        return next(_to_utterances(self._table.slice(row, 1)))

    def __iter__(self) -> Iterator[Utterance]:
        for start in range(0, len(self), _CHUNK):
            yield from _to_utterances(self._table.slice(start, _CHUNK))

    def repeated_ids(self) -> list[str]:
        """Ids that more than one row has, in the order of their first appearance."""
        if len(pc.unique(self.ids)) == len(self):
            return []
        counts = pc.value_counts(self.ids)
        more = pc.greater(counts.field("counts"), 1)
        repeated: list[str] = counts.field("values").filter(more).to_pylist()
        return repeated


def read_table(paths: Iterable[str | Path]) -> UtteranceTable:
    """Read manifests whole, in order, as one corpus.

    Raises:
        ManifestError: one cannot be read or holds no utterance, or an id is there twice.
    """
    sources = tuple(paths)
    table = UtteranceTable.of(chain.from_iterable(map(iter_filled, sources)))
    refuse_repeated(table.repeated_ids(), ", ".join(map(str, sources)))
    return table


def among(names: pa.ChunkedArray, known: Iterable[str] | pa.ChunkedArray) -> np.ndarray:
    """bool (N,): which of ``names`` are in ``known``."""
    if not isinstance(known, pa.ChunkedArray):
        known = pa.chunked_array([pa.array(list(known), pa.large_string())])
    values = known.cast(pa.large_string()).combine_chunks()
    mask_N: np.ndarray = pc.is_in(names.cast(pa.large_string()), value_set=values).to_numpy()
    return mask_N


def _to_batch(utterances: list[Utterance]) -> pa.RecordBatch:
    audio = [utterance.audio for utterance in utterances]
    columns = (
        [utterance.id for utterance in utterances],
        [ref.path for ref in audio],
        [utterance.text for utterance in utterances],
        [utterance.speaker for utterance in utterances],
        [ref.offset for ref in audio],
        [ref.duration for ref in audio],
        [ref.speed for ref in audio],
    )
    # Arrow's own pool holds on to two thirds more than is asked of it here.
    pool = pa.system_memory_pool()
    named = zip(columns, _SCHEMA, strict=True)
    arrays = [pa.array(column, field.type, memory_pool=pool) for column, field in named]
    return pa.record_batch(arrays, schema=_SCHEMA)


def _to_utterances(table: pa.Table) -> Iterator[Utterance]:
    columns: list[list[Any]] = [column.to_pylist() for column in table.columns]
    for name, path, text, speaker, offset, duration, speed in zip(*columns, strict=True):
        yield Utterance(name, AudioRef(path, offset, duration, speed), text, speaker)
