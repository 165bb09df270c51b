"""From a row's places to its arrays: spans of a shard's file, each checked by its hash."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from kdcache.errors import DamagedCacheError
from kdcache.store.checksums import bytes_hash

if TYPE_CHECKING:
    import numpy as np

    from kdcache.store.snapshot import Places
    from kdcache.store.storage import Span


def span_of(places: Places, row: int) -> Span | None:
    """Where the column of ``row`` lies in its shard's file; ``None`` where it has none.

    Raises:
        DamagedCacheError: the row lacks a column that every utterance has.
    """
    start = int(places.at_N[row])
    if start >= 0:
        return start, math.prod(places.shape_NA[row].tolist()) * places.dtype.itemsize
    if not places.optional:
        raise DamagedCacheError("the catalogue does not say where it is")
    return None


def read_column(raw: np.ndarray, places: Places, row: int) -> np.ndarray:
    """The column of ``row`` from the uint8 bytes at its span, not copied.

    Raises:
        DamagedCacheError: the bytes are not there, or not what was written.
    """
    shape = places.shape_NA[row].tolist()
    length = math.prod(shape) * places.dtype.itemsize
    if raw.size != length or bytes_hash(raw) != int(places.hash_N[row]):
        raise DamagedCacheError("its stored bytes are not what was written")
    return raw.view(places.dtype).reshape(shape)
