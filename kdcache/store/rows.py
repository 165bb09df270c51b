"""Columns of many rows at once, in few steps of Python an array.

A trainer's batch is dozens of rows of a few columns each. Where their arrays lie is worked out in
numpy for all of them, rows of one shard share one read of it, and what is left to do for each
array is a slice, a hash and a view.

Shapes: R rows, C columns, N rows of the catalogue, A axes.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from kdcache.errors import DamagedCacheError
from kdcache.store.checksums import bytes_hash, bytes_hashes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcache.store.files import FileRecord
    from kdcache.store.mapping import ShardReader
    from kdcache.store.snapshot import Places

_HASH_OF_NOTHING = bytes_hash(np.empty(0, np.uint8))


def read_rows(
    shards: ShardReader,
    files: Sequence[FileRecord],
    rows: Sequence[int],
    columns: Sequence[Places],
) -> list[list[np.ndarray | None]]:
    """Arrays of ``rows`` column by column, each checked by its hash, not copied.

    Args:
        shards: reads them.
        files: the shard of each of the rows.
        rows: of the catalogue.
        columns: those to read.

    Returns:
        For each column an array a row, ``None`` where the row has none.

    Raises:
        DamagedCacheError: something is not what was written. It does not say what, which reading
            row by row does (``Cache.read_columns``).
    """
    if not rows or not columns:
        return [[] for _ in columns]
    index_R = np.asarray(rows, np.int64)
    at_RC = np.stack([column.at_N[index_R] for column in columns], axis=1)
    hash_RC = np.stack([column.hash_N[index_R] for column in columns], axis=1)
    shapes = [column.shape_NA[index_R] for column in columns]
    length_RC = np.stack([_lengths(*pair) for pair in zip(columns, shapes, strict=True)], axis=1)
    absent_RC = at_RC < 0
    if (absent_RC & [not column.optional for column in columns]).any():
        raise DamagedCacheError("the catalogue does not say where all columns are")
    # What a row has not is nothing, read from anywhere.
    at_RC[absent_RC], length_RC[absent_RC], hash_RC[absent_RC] = 0, 0, _HASH_OF_NOTHING
    parts_RC = _read(shards, files, at_RC, length_RC)
    _check([part for parts_C in parts_RC for part in parts_C], length_RC, hash_RC)
    own = zip(columns, shapes, zip(*parts_RC, strict=True), absent_RC.T, strict=True)
    return [_arrays(*fields) for fields in own]


def _lengths(column: Places, shape_RA: np.ndarray) -> np.ndarray:
    """Bytes of the column in each row."""
    elements_R = shape_RA.prod(axis=1, dtype=np.int64)
    lengths_R: np.ndarray = elements_R * column.dtype.itemsize
    return lengths_R


def _read(
    shards: ShardReader, files: Sequence[FileRecord], at_RC: np.ndarray, length_RC: np.ndarray
) -> list[list[np.ndarray]]:
    """Bytes of all arrays; one read a shard."""
    members: dict[str, list[int]] = {}
    for row, file in enumerate(files):
        members.setdefault(file.path, []).append(row)
    pairs = zip(at_RC.tolist(), length_RC.tolist(), strict=True)
    spans_RC = [list(zip(at_C, length_C, strict=True)) for at_C, length_C in pairs]
    parts_RC: list[list[np.ndarray]] = [[] for _ in files]
    for own in members.values():
        spans = [span for row in own for span in spans_RC[row]]
        parts = iter(shards.read(files[own[0]], spans))
        for row in own:
            parts_RC[row] = list(islice(parts, len(spans_RC[row])))
    return parts_RC


def _check(parts: Sequence[np.ndarray], length_RC: np.ndarray, hash_RC: np.ndarray) -> None:
    lengths, hashes = length_RC.ravel().tolist(), hash_RC.ravel().tolist()
    if list(map(len, parts)) != lengths or bytes_hashes(parts) != hashes:
        raise DamagedCacheError("stored bytes are not what was written")


def _arrays(
    column: Places, shape_RA: np.ndarray, parts_R: Sequence[np.ndarray], absent_R: np.ndarray
) -> list[np.ndarray | None]:
    """Views of the bytes."""
    if absent_R.any():
        rows = zip(shape_RA.tolist(), parts_R, absent_R.tolist(), strict=True)
        return [None if none else np.ndarray(s, column.dtype, part) for s, part, none in rows]
    pairs = zip(shape_RA.tolist(), parts_R, strict=True)
    return [np.ndarray(shape, column.dtype, part) for shape, part in pairs]
