"""Utterances with their arrays as JSON lines, npz, Arrow or Parquet.

Equal contents give equal bytes. In Arrow and Parquet an array takes two columns: ``<name>``, its
elements in C order, and ``<name>.shape``; both are null where an utterance has no such array.
"""

from __future__ import annotations

import zipfile
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from kdcache.inspect.arrays import Arrays
    from kdcache.store import Cache

TOGETHER = 16
"""Utterances of a batch of Arrow and of a row group of Parquet."""

ROW = {
    "id": pa.string(), "text": pa.string(), "speaker": pa.string(), "duration": pa.float64(),
    "frames": pa.int32(), "tokens": pa.list_(pa.int32()),
}  # fmt: skip
"""What is told of each utterance beside its arrays."""

_EPOCH = (1980, 1, 1, 0, 0, 0)


def to_json(key: str, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """An utterance for JSON: the shortest decimals that give the same numbers back."""
    return {"id": key, **{name: _numbers(array) for name, array in arrays.items()}}


def write_npz(sink: IO[bytes], utterances: Iterable[tuple[str, Mapping[str, np.ndarray]]]) -> None:
    """All arrays in one file for ``numpy.load``, named ``<id>/<array>``."""
    with zipfile.ZipFile(sink, "w") as archive:
        for key, arrays in utterances:
            for name, array in arrays.items():
                # A fixed date: numpy's own writer puts the time of day into the file.
                member = zipfile.ZipInfo(f"{key}/{name}.npy", _EPOCH)
                with archive.open(member, "w", force_zip64=True) as file:
                    contents = np.ascontiguousarray(array)
                    np.lib.format.write_array(file, contents, allow_pickle=False)


def write_arrow(sink: IO[bytes], cache: Cache, rows: Iterable[int], arrays: Arrays) -> None:
    """An Arrow IPC stream, a row an utterance."""
    with pa.ipc.new_stream(sink, schema(arrays)) as writer:
        for batch in batches(cache, rows, arrays):
            writer.write_batch(batch)


def write_parquet(sink: IO[bytes], cache: Cache, rows: Iterable[int], arrays: Arrays) -> int:
    """A Parquet file, a row an utterance; returns how many."""
    import pyarrow.parquet as pq

    count = 0
    with pq.ParquetWriter(sink, schema(arrays), compression="zstd") as writer:
        for batch in batches(cache, rows, arrays):
            writer.write_batch(batch)
            count += batch.num_rows
    return count


def schema(arrays: Arrays) -> pa.Schema:
    """Columns of Arrow and Parquet."""
    fields = [pa.field(name, kind) for name, kind in ROW.items()]
    for name, dtype in arrays.types.items():
        fields.append(pa.field(name, pa.large_list(pa.from_numpy_dtype(dtype))))
        fields.append(pa.field(f"{name}.shape", pa.list_(pa.int32())))
    return pa.schema(fields)


def batches(cache: Cache, rows: Iterable[int], arrays: Arrays) -> Iterator[pa.RecordBatch]:
    """Rows with their arrays, some at a time."""
    told, waiting = cache.catalogue_columns(list(ROW)), list[int]()
    for row in rows:
        waiting.append(row)
        if len(waiting) == TOGETHER:
            yield _batch(told, waiting, arrays)
            waiting = []
    if waiting:
        yield _batch(told, waiting, arrays)


def _batch(told: pa.Table, rows: list[int], arrays: Arrays) -> pa.RecordBatch:
    values = told.take(pa.array(rows, pa.int64())).to_pydict()
    columns = [pa.array(values[name], kind) for name, kind in ROW.items()]
    found = [arrays.read(row) for row in rows]
    for name, dtype in arrays.types.items():
        mine = [one.get(name) for one in found]
        columns += [_lists(mine, dtype), _shapes(mine)]
    return pa.record_batch(columns, schema=schema(arrays))


def _lists(arrays: list[np.ndarray | None], dtype: np.dtype[Any]) -> pa.Array:
    sizes = [0 if array is None else array.size for array in arrays]
    flat = [array.reshape(-1) for array in arrays if array is not None]
    native = np.concatenate([np.empty(0, dtype), *flat]).astype(dtype.newbyteorder("="))
    offsets = pa.array(np.cumsum([0, *sizes]), pa.int64())
    absent = pa.array([array is None for array in arrays])
    return pa.LargeListArray.from_arrays(offsets, pa.array(native), mask=absent)


def _shapes(arrays: list[np.ndarray | None]) -> pa.Array:
    shapes = [None if array is None else list(array.shape) for array in arrays]
    return pa.array(shapes, pa.list_(pa.int32()))


def _numbers(array: np.ndarray) -> Any:
    if array.dtype.kind != "f":
        return array.tolist()
    # By way of text: 0.1 of half precision is 0.1 then, not 0.0999755859375.
    return array.astype("U32").astype(np.float64).tolist()
