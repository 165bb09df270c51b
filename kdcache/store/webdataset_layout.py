"""The webdataset layout: a conventional, uncompressed tar that plain ``webdataset`` reads.

Members of an utterance are adjacent: ``<key>.<column>.npy`` for each column in order of
name, ``<key>.flac`` where audio is kept, and ``<key>.json``. A member starts at a multiple of
512 and an ``.npy`` header is a multiple of 64 long, so arrays lie aligned for mapping.
Headers hold no time, owner or host: equal input gives equal bytes.
"""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING
from urllib.parse import quote

import numpy as np

from kdcache.store.layout import Shard, metadata_of
from kdcache.store.spec import AUDIO
from kdcache.types import canonical_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kdcache.codec import ColumnSpec
    from kdcache.store.packed import PackedUtterance


def build_webdataset(packed: Sequence[PackedUtterance], columns: Mapping[str, ColumnSpec]) -> Shard:
    """Lay out utterances in the order given. ``columns`` is not needed: ``.npy`` says it all."""
    tar = _Tar()
    offsets = [_add_utterance(tar, item) for item in packed]
    return Shard(tar.finish(), offsets)


def member_key(utterance_id: str) -> str:
    """The id with everything but letters, digits, ``_``, ``-`` and ``~`` percent-encoded.

    webdataset takes what stands before the first dot for the key.
    """
    return quote(utterance_id, safe="").replace(".", "%2E")


def _add_utterance(tar: _Tar, item: PackedUtterance) -> dict[str, int]:
    key = member_key(item.utterance.id)
    offsets = {}
    for name, array in item.columns.items():
        if name == AUDIO:
            offsets[name] = tar.add(f"{key}.flac", b"", array)
        else:
            offsets[name] = tar.add(f"{key}.{name}.npy", _npy_header(array), array)
    tar.add(f"{key}.json", canonical_json(metadata_of(item)).encode(), None)
    return offsets


def _npy_header(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
    return file.getvalue()


class _Tar:
    """Writes members one after the other and knows where their data starts."""

    def __init__(self) -> None:
        self._file = io.BytesIO()

    def add(self, name: str, head: bytes, array: np.ndarray | None) -> int:
        """Append a member of ``head`` and ``array``; where the array starts in the file."""
        data = b"" if array is None else array.tobytes()
        info = tarfile.TarInfo(name)
        info.size = len(head) + len(data)
        self._file.write(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))
        self._file.write(head)
        start = self._file.tell()
        self._file.write(data)
        self._file.write(bytes(-info.size % tarfile.BLOCKSIZE))
        return start

    def finish(self) -> bytes:
        """The archive, closed by two empty blocks."""
        self._file.write(bytes(2 * tarfile.BLOCKSIZE))
        return self._file.getvalue()
