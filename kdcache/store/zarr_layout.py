"""The zarr layout: a zarr v3 group in an uncompressed zip, one ragged array a column.

``<column>`` is one dimension: all utterances' elements one after the other, in one chunk,
little-endian, uncompressed. ``<column>.offsets`` (N+1) says where each utterance starts,
in elements; ``<column>.shape`` (N, axes) gives it its shape back, −1 where an utterance has
no such column. The group's attribute ``utterances`` holds ids, texts and tokens in order.
The zip has fixed dates, sorted names, and data at multiples of 64 bytes: equal input gives
equal bytes, and a column can be mapped.
"""

from __future__ import annotations

import io
import struct
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from kdcache.store.layout import Shard, metadata_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kdcache.codec import ColumnSpec
    from kdcache.store.packed import PackedUtterance

ALIGNMENT = 64
_LOCAL_HEADER = 30
_PADDING_FIELD = 0xD935
"""The extra field that Android's zipalign pads with."""


def build_zarr(packed: Sequence[PackedUtterance], columns: Mapping[str, ColumnSpec]) -> Shard:
    """Lay out utterances in the order given, with each column that any of them has."""
    ragged = {
        name: _Ragged(packed, name, spec)
        for name, spec in columns.items()
        if any(name in item.columns for item in packed)
    }
    data, starts = _zip(_group(packed, ragged))
    offsets: list[dict[str, int]] = []
    for index, item in enumerate(packed):
        offsets.append(
            {
                name: starts.get(f"{name}/c/0", 0) + ragged[name].byte_offset(index)
                for name in item.columns
            }
        )
    return Shard(data, offsets)


class _Ragged:
    """One column of all utterances, concatenated."""

    def __init__(self, packed: Sequence[PackedUtterance], name: str, spec: ColumnSpec) -> None:
        dtype = np.dtype(spec.dtype).newbyteorder("<")
        arrays = [item.columns.get(name) for item in packed]
        self.values = np.concatenate(
            [np.empty(0, dtype), *(a.reshape(-1) for a in arrays if a is not None)]
        )
        sizes = [0 if a is None else a.size for a in arrays]
        self.offsets = np.concatenate([[0], np.cumsum(sizes)]).astype("<i8")
        absent = (-1,) * spec.ndim
        shapes = [absent if a is None else a.shape for a in arrays]
        self.shapes = np.array(shapes, "<i8").reshape(len(arrays), spec.ndim)

    def byte_offset(self, index: int) -> int:
        return int(self.offsets[index]) * self.values.itemsize


def _group(packed: Sequence[PackedUtterance], ragged: Mapping[str, _Ragged]) -> dict[str, bytes]:
    """The group's files, as the zarr library writes them."""
    import zarr
    from zarr.storage import MemoryStore

    files: dict[str, Any] = {}
    attributes: Any = {"utterances": [metadata_of(item) for item in packed]}
    group = zarr.create_group(MemoryStore(files), zarr_format=3, attributes=attributes)
    for name, column in ragged.items():
        _write(group, name, column.values)
        _write(group, f"{name}.offsets", column.offsets)
        _write(group, f"{name}.shape", column.shapes)
    return {name: buffer.to_bytes() for name, buffer in files.items()}


def _write(group: Any, name: str, values: np.ndarray) -> None:
    array = group.create_array(
        name,
        shape=values.shape,
        dtype=values.dtype,
        chunks=tuple(max(1, length) for length in values.shape),
        compressors=None,
        filters=None,
        # A chunk of zeros would be left out, and with it what the catalogue points at.
        config={"write_empty_chunks": True},
    )
    array[...] = values


def _zip(files: Mapping[str, bytes]) -> tuple[bytes, dict[str, int]]:
    """An uncompressed zip of sorted members, and where the data of each starts."""
    target = io.BytesIO()
    starts = {}
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system = 3
            info.external_attr = 0o644 << 16
            info.extra = _padding(target.tell() + _LOCAL_HEADER + len(name.encode()))
            archive.writestr(info, files[name])
            starts[name] = target.tell() - len(files[name])
    return target.getvalue(), starts


def _padding(position: int) -> bytes:
    """An extra field after which ``position`` is a multiple of the alignment."""
    length = -(position + 4) % ALIGNMENT
    return struct.pack("<HH", _PADDING_FIELD, length) + bytes(length)
