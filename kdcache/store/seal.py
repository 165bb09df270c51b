"""JSON files that notice a flipped bit: the text is canonical and holds its own checksum.

``unseal`` writes the parsed value again and compares every byte, so that damage to a blank
is found like damage to a digit.
"""

from __future__ import annotations

import json
from typing import Any

import xxhash

from kdcache.errors import DamagedCacheError
from kdcache.types import canonical_json

CHECKSUM = "checksum"


def seal(value: dict[str, Any]) -> bytes:
    """Indented, sorted UTF-8 JSON of ``value`` and its xxh3-128 under ``checksum``."""
    body = {key: item for key, item in value.items() if key != CHECKSUM}
    checksum = xxhash.xxh3_128_hexdigest(canonical_json(body).encode())
    text = json.dumps({**body, CHECKSUM: checksum}, indent=2, sort_keys=True, ensure_ascii=False)
    return text.encode() + b"\n"


def unseal(raw: bytes, name: str) -> dict[str, Any]:
    """The value that was sealed, checksum left out.

    Raises:
        DamagedCacheError: the bytes are not what :func:`seal` wrote; ``name`` says whose.
    """
    try:
        value = json.loads(raw)
        intact = isinstance(value, dict) and seal(value) == raw
    except (ValueError, RecursionError):
        intact = False
    if not intact:
        raise DamagedCacheError(f"{name}: its checksum does not match its contents")
    del value[CHECKSUM]
    return dict(value)
