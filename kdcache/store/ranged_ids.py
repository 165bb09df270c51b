"""Ids of a large index in an object store: sorted, and looked up without fetching them all.

Between two rows that are known the id can only be among those between; some rows that lie evenly
among them are asked for together, again and again, until what is left is small enough to be
fetched. Of a hundred million ids that takes some hundred small requests in eight rounds, and 1 MB,
where the column has 4 GB. Whoever looks up many gets the column.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from kdcache.store.sorted_strings import SortedStrings

if TYPE_CHECKING:
    from kdcache.store.ranged_table import RangedTable

BLOCK = 1 << 15
"""Rows that are fetched as they are."""

_AT_ONCE = 15
"""Rows that are asked for together: each round leaves a sixteenth."""

SINGLE = 16
"""After so many look-ups the whole column is fetched."""


class RangedIds(Sequence[str]):
    """The column ``id`` of a table."""

    def __init__(self, table: RangedTable) -> None:
        self._table = table
        self._fetched: SortedStrings | None = None
        self._block: tuple[int, list[str]] = (0, [])
        self._looked_up = 0

    def __len__(self) -> int:
        return self._table.rows.count

    def __getitem__(self, index: Any) -> Any:
        if self._fetched is not None:
            return self._fetched[index]
        places = range(len(self))[index]
        if isinstance(places, range):
            if places.step != 1:
                return self._whole()[index]
            return self._slice(places.start, len(places))
        start, block = self._block
        if start <= places < start + len(block):
            return block[places - start]
        return self._table.rows.pick([places], "id")[0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._whole())

    def bisect(self, key: str) -> int:
        """The first row whose id is not before ``key``."""
        if self._fetched is not None:
            return self._fetched.bisect(key)
        start, block = self._block
        if block and block[0] <= key <= block[-1]:
            return start + bisect_left(block, key)
        self._looked_up += 1
        if self._looked_up > SINGLE:
            return self._whole().bisect(key)
        return self._search(key)

    def _search(self, key: str) -> int:
        low, high = 0, len(self)
        while high - low > BLOCK:
            step = (high - low) / (_AT_ONCE + 1)
            places = [low + round(step * n) for n in range(1, _AT_ONCE + 1)]
            at = bisect_left(self._table.rows.pick(places, "id"), key)  # type: ignore[type-var]
            # Up to and with the one that may be it; from and with the one that is before it, so
            # that what is asked for next, whether key is there, is in the block as well.
            low, high = places[at - 1] if at else low, places[at] + 1 if at < _AT_ONCE else high
        self._block = (low, self._slice(low, high - low))
        return low + bisect_left(self._block[1], key)

    def _slice(self, start: int, count: int) -> list[str]:
        known, block = self._block
        if known <= start and start + count <= known + len(block):
            return block[start - known : start - known + count]
        found: list[str] = self._table.rows.slice(start, count, ["id"])["id"].to_pylist()
        return found

    def _whole(self) -> SortedStrings:
        if self._fetched is None:
            self._fetched = SortedStrings(self._table["id"])
        return self._fetched
