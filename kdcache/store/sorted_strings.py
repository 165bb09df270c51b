"""Sorted strings and their places, looked up where they lie."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

    from kdcache.store.ranged_ids import RangedIds


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """A column in one piece; what is so already is not copied, as combining would do."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def place_of(ids: Sequence[str], key: str) -> int:
    """The first place whose id is not before ``key``."""
    own: Callable[[str], int] | None = getattr(ids, "bisect", None)
    return bisect_left(ids, key) if own is None else own(key)


class SortedStrings(Sequence[str]):
    """A sorted column of strings that stays where it is."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        self._values = one_array(column)

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, index: Any) -> Any:
        found = self._values[index]
        return found.to_pylist() if isinstance(index, slice) else found.as_py()

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self._values), 65_536):
            yield from self._values.slice(start, 65_536).to_pylist()

    def bisect(self, key: str) -> int:
        """The first place whose string is not before ``key``."""
        return bisect_left(self, key)


class RowsById(Mapping[str, int]):
    """Row by id, by bisection: no dictionary of all ids is ever built."""

    def __init__(self, ids: SortedStrings | RangedIds) -> None:
        self._ids = ids

    def __getitem__(self, key: str) -> int:
        row = self._ids.bisect(key)
        if row < len(self._ids) and self._ids[row] == key:
            return row
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)
