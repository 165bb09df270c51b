"""Columns of many rows at once, in few steps of Python an array.

A trainer's batch is dozens of rows of a few columns each. Where their arrays lie is worked out in
numpy for all of them, rows of one shard share one read of it, and what is left to do for each
array is a slice, a hash and a view.

Shapes: R rows, C columns, N rows of the catalogue, A axes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kdcache.errors import DamagedCacheError
from kdcache.store.checksums import bytes_hash

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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
    index_R = np.asarray(rows, np.int64)
    there_RC = np.stack([column.at_N[index_R] >= 0 for column in columns], axis=1)
    if not (there_RC | [column.optional for column in columns]).all():
        raise DamagedCacheError("the catalogue does not say where all columns are")
    at_RC = np.stack([column.at_N[index_R] for column in columns], axis=1)
    length_RC = np.stack([_lengths(column, index_R) for column in columns], axis=1)
    hash_RC = np.stack([column.hash_N[index_R] for column in columns], axis=1)
    # What a row has not is nothing, read from anywhere.
    at_RC[~there_RC], length_RC[~there_RC], hash_RC[~there_RC] = 0, 0, _HASH_OF_NOTHING
    parts_RC = _read(shards, files, at_RC, length_RC)
    _check([part for parts_C in parts_RC for part in parts_C], length_RC, hash_RC)
    parts_CR = zip(*parts_RC, strict=True)
    return [
        list(_arrays(column, index_R, parts_R, there_R))
        for column, parts_R, there_R in zip(columns, parts_CR, there_RC.T, strict=True)
    ]


def _lengths(column: Places, index_R: np.ndarray) -> np.ndarray:
    """Bytes of the column in each row."""
    elements_R = column.shape_NA[index_R].prod(axis=1, dtype=np.int64)
    lengths_R: np.ndarray = elements_R * column.dtype.itemsize
    return lengths_R


def _read(
    shards: ShardReader, files: Sequence[FileRecord], at_RC: np.ndarray, length_RC: np.ndarray
) -> list[list[np.ndarray]]:
    """Bytes of all arrays; one read a shard."""
    members: dict[str, list[int]] = {}
    for row, file in enumerate(files):
        members.setdefault(file.path, []).append(row)
    spans_RC = [list(zip(*pair, strict=True)) for pair in zip(at_RC.tolist(), length_RC.tolist(), strict=True)]
    parts_RC: list[list[np.ndarray]] = [[] for _ in files]
    for own in members.values():
        parts = iter(shards.read(files[own[0]], [span for row in own for span in spans_RC[row]]))
        for row in own:
            parts_RC[row] = [next(parts) for _ in spans_RC[row]]
    return parts_RC


def _check(parts: Sequence[np.ndarray], length_RC: np.ndarray, hash_RC: np.ndarray) -> None:
    lengths, hashes = length_RC.ravel().tolist(), hash_RC.ravel().tolist()
    if list(map(len, parts)) != lengths or list(map(bytes_hash, parts)) != hashes:
        raise DamagedCacheError("stored bytes are not what was written")


def _arrays(
    column: Places, index_R: np.ndarray, parts_R: Sequence[np.ndarray], there_R: np.ndarray
) -> Iterator[np.ndarray | None]:
    """Views of the bytes."""
    shapes = column.shape_NA[index_R].tolist()
    for shape, part, there in zip(shapes, parts_R, there_R.tolist(), strict=True):
        yield np.ndarray(shape, column.dtype, part) if there else None
