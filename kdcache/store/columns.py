"""From a row's places to its arrays: slices of a mapped file, each checked by its hash."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from kdcache.errors import DamagedCacheError
from kdcache.store.checksums import bytes_hash

if TYPE_CHECKING:
    import numpy as np

    from kdcache.store.snapshot import Places


def slice_column(data: np.ndarray, places: Places, row: int) -> np.ndarray | None:
    """The column of ``row`` in its shard's bytes, not copied; ``None`` where it has none.

    Raises:
        DamagedCacheError: the bytes are not there, or not what was written, or the row lacks
            a column that every utterance has.
    """
    start = int(places.at_N[row])
    if start < 0:
        if not places.optional:
            raise DamagedCacheError("the catalogue does not say where it is")
        return None
    shape = places.shape_NA[row].tolist()
    length = math.prod(shape) * places.dtype.itemsize
    raw = data[start : start + length]
    if raw.size != length or bytes_hash(raw) != int(places.hash_N[row]):
        raise DamagedCacheError("its stored bytes are not what was written")
    return raw.view(places.dtype).reshape(shape)
