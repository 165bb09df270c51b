"""Strings and lists of the catalogue, a batch of rows at a time, from where they lie.

Arrow makes a Python value a row at a time, or new columns of the rows asked for; of a batch's few
rows of many, either takes as long as reading their targets. An offset and a slice do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from kdcache.store.sorted_strings import one_array

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Strings:
    """A column of strings, none of them null.

    Args:
        column: of type ``string`` or ``large_string``; it stays where it is.
    """

    def __init__(self, column: pa.ChunkedArray) -> None:
        array = one_array(column)
        _, offsets, data = array.buffers()
        wide = pa.types.is_large_string(array.type)
        ends = np.frombuffer(offsets or bytes(8), np.int64 if wide else np.int32)
        self._offsets = ends[array.offset : array.offset + len(array) + 1]
        self._data = memoryview(data or b"")

    def take(self, rows: Sequence[int]) -> list[str]:
        """The strings of some rows."""
        return [str(self._data[span], "utf-8") for span in _spans(self._offsets, rows)]


class Integers:
    """A column of lists of integers, none of them null.

    Args:
        column: of type ``list`` or ``large_list``; it stays where it is.
    """

    def __init__(self, column: pa.ChunkedArray) -> None:
        array = one_array(column)
        self._offsets = array.offsets.to_numpy()
        self._values = array.values.to_numpy()

    def take(self, rows: Sequence[int]) -> list[np.ndarray]:
        """The lists of some rows: int64."""
        return [self._values[span].astype(np.int64) for span in _spans(self._offsets, rows)]


def _spans(offsets: np.ndarray, rows: Sequence[int]) -> Iterator[slice]:
    index_R = np.asarray(rows, np.int64)
    return map(slice, offsets[index_R].tolist(), offsets[index_R + 1].tolist())
