"""The content digest: equal for two caches that hold the same, however they were made."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from kdcache.types import canonical_json

if TYPE_CHECKING:
    from kdcache.store.snapshot import Snapshot


def content_digest(spec_hash: str, snapshot: Snapshot) -> str:
    """Hex SHA-256 of lines of canonical JSON, each ended by a newline.

    The first is the spec's hash, then ``[id, checksum]`` of each good utterance, then
    ``[id, error code]`` of each failed one, both sorted by id. The second list is set off by
    an empty line.
    """
    digest = hashlib.sha256()
    good, failed = snapshot.catalogue, snapshot.failures
    lines: list[object] = [spec_hash]
    lines += [list(pair) for pair in zip(snapshot.ids, good["checksum"].to_pylist(), strict=True)]
    digest.update("".join(canonical_json(line) + "\n" for line in lines).encode())
    pairs = zip(failed["id"].to_pylist(), failed["error"].to_pylist(), strict=True)
    digest.update(("\n" + "".join(canonical_json(list(p)) + "\n" for p in pairs)).encode())
    return digest.hexdigest()
