"""Hashes of what is stored: xxh3-64 a column, xxh3-128 an utterance and a file.

The hash of an utterance depends on its columns alone, not on the layout that holds them, so
that equal content has equal hashes everywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xxhash

from kdcache.types import canonical_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from io import BufferedReader

_READ_AT_ONCE = 1 << 20
"""Bytes."""


def bytes_hash(data: np.ndarray) -> int:
    """xxh3-64 of uint8 (N,), hashed in place."""
    return xxhash.xxh3_64_intdigest(data.data)


def bytes_hashes(parts: Iterable[np.ndarray]) -> list[int]:
    """:func:`bytes_hash` of each."""
    return [xxhash.xxh3_64_intdigest(part.data) for part in parts]


def column_hash(array: np.ndarray) -> int:
    """xxh3-64 of the bytes of a C-contiguous array."""
    return bytes_hash(array.reshape(-1).view(np.uint8))


def content_hash(columns: Mapping[str, np.ndarray]) -> str:
    """Hex xxh3-128 over name, dtype, shape and hash of each column, sorted by name."""
    described = [
        [name, array.dtype.name, list(array.shape), f"{column_hash(array):016x}"]
        for name, array in sorted(columns.items())
    ]
    return xxhash.xxh3_128_hexdigest(canonical_json(described).encode())


def file_hash(data: bytes | memoryview) -> str:
    """Hex xxh3-128 of a whole file."""
    return xxhash.xxh3_128_hexdigest(data)


def read_file_hash(file: BufferedReader) -> str:
    """:func:`file_hash` of an open file, which is read through a small buffer."""
    digest, buffer = xxhash.xxh3_128(), memoryview(bytearray(_READ_AT_ONCE))
    while count := file.readinto(buffer):
        digest.update(buffer[:count])
    return digest.hexdigest()
