"""The content digest: equal for two caches that hold the same, however they were made."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from kdcache.types import canonical_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from kdcache.store.snapshot import Snapshot


def content_digest(spec_hash: str, snapshot: Snapshot) -> str:
    """Hex SHA-256 of lines of canonical JSON, each ended by a newline.

    The first is the spec's hash, then ``[id, checksum]`` of each good utterance, then
    ``[id, error code]`` of each failed one, both sorted by id. The second list is set off by
    an empty line.
    """
    digest = hashlib.sha256(f"{canonical_json(spec_hash)}\n".encode())
    for lines in _lines(snapshot.catalogue, "checksum"):
        digest.update(lines)
    digest.update(b"\n")
    for lines in _lines(snapshot.failures, "error"):
        digest.update(lines)
    return digest.hexdigest()


def _lines(table: pa.Table, name: str) -> Iterator[bytes]:
    """``[id, value]`` of each row, some thousands at a time."""
    for batch in table.select(["id", name]).to_batches(max_chunksize=65_536):
        pairs = zip(batch["id"].to_pylist(), batch[name].to_pylist(), strict=True)
        yield "".join(canonical_json(list(pair)) + "\n" for pair in pairs).encode()
