"""Which shard each row of a catalogue is in: numbered alike however the catalogue was read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from kdcache.store.catalogue import UNIT
from kdcache.store.sorted_strings import one_array

if TYPE_CHECKING:
    from kdcache.store.files import FileRecord
    from kdcache.store.snapshot import Snapshot


@dataclass(frozen=True, slots=True, eq=False)
class ShardsOfRows:
    """The shards that hold utterances, in the order of their units' names.

    Attributes:
        code_N: int32; of each row the place of its shard in ``records``.
        records: the shards' files.
    """

    code_N: np.ndarray
    records: tuple[FileRecord, ...]

    @property
    def digest(self) -> str:
        """Hex xxh3-64 of which rows lie together."""
        return xxhash.xxh3_64_hexdigest(np.ascontiguousarray(self.code_N, "<i4").data)


def shards_of_rows(snapshot: Snapshot) -> ShardsOfRows:
    """The shard of each row of ``snapshot``."""
    units = one_array(snapshot.columns[UNIT])
    if not pa.types.is_dictionary(units.type):
        units = units.dictionary_encode()
    codes = units.indices.to_numpy(zero_copy_only=False)
    # Of several rows of one unit the last that is written counts: the first row.
    rows = np.full(len(units.dictionary), -1, np.int64)
    rows[codes[::-1]] = np.arange(len(codes))[::-1]
    order = pc.sort_indices(units.dictionary).to_numpy()
    order = order[rows[order] >= 0]
    number = np.zeros(len(rows), np.int32)
    number[order] = np.arange(len(order), dtype=np.int32)
    records = tuple(snapshot.shards[row] for row in rows[order].tolist())
    return ShardsOfRows(number[codes], records)
