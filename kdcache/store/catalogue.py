"""Catalogue parts: a Parquet file a unit, a row an utterance, failed ones among them.

For each stored column a row has ``at.<column>`` (where its first byte is in the shard's
file), ``shape.<column>`` and ``xxh3.<column>``: all that a reader needs to take it from a
mapped file. Nulls stand where an utterance has no such column, and in rows of failed ones.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from kdcache.store.checksums import column_hash, content_hash

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from kdcache.codec import ColumnSpec
    from kdcache.store.packed import FailedUtterance, PackedUtterance

CATALOGUE = "catalogue"
UNIT, SHARD = "unit", "shard"

_FIXED = [
    pa.field("id", pa.string(), nullable=False),
    pa.field("text", pa.string()),
    pa.field("speaker", pa.string()),
    pa.field("tokens", pa.list_(pa.int32())),
    pa.field("duration", pa.float64()),
    pa.field("frames", pa.int32()),
    pa.field("checksum", pa.string()),
    pa.field("error", pa.string()),
    pa.field("message", pa.string()),
]


def catalogue_schema(columns: Iterable[str], measures: Iterable[str] = ()) -> pa.Schema:
    """Columns of a part: the fixed ones, ``fidelity.<target>.<measure>``, and the places."""
    fields = [*_FIXED]
    fields += [pa.field(f"fidelity.{name}", pa.float32()) for name in sorted(measures)]
    for name in sorted(columns):
        fields.append(pa.field(f"at.{name}", pa.int64()))
        fields.append(pa.field(f"shape.{name}", pa.list_(pa.int32())))
        fields.append(pa.field(f"xxh3.{name}", pa.uint64()))
    return pa.schema(fields)


def build_part(
    unit: str,
    shard: str | None,
    packed: Sequence[PackedUtterance],
    offsets: Sequence[Mapping[str, int]],
    failed: Sequence[FailedUtterance],
    columns: Mapping[str, ColumnSpec],
) -> bytes:
    """The Parquet file of a unit whose payload is the file ``shard``.

    Args:
        unit: name of the unit of work.
        shard: path within the cache; ``None`` where every utterance failed.
        packed: utterances with checked columns.
        offsets: for each of them, where its columns start in the shard.
        failed: utterances without columns.
        columns: the cache's.
    """
    rows = [_good_row(item, places) for item, places in zip(packed, offsets, strict=True)]
    rows += [_failed_row(item) for item in failed]
    measures = {name for item in packed for name in item.fidelity}
    metadata = {"kdcache.unit": unit, "kdcache.shard": shard or ""}
    schema = catalogue_schema(columns, measures).with_metadata(metadata)
    target = io.BytesIO()
    table = pa.Table.from_pylist(rows, schema=schema)
    pq.write_table(table, target, compression="zstd", write_page_checksum=True)
    return target.getvalue()


def read_part(data: bytes) -> pa.Table:
    """The part's rows, with columns ``unit`` and ``shard`` from its metadata."""
    table = pq.read_table(
        pa.BufferReader(pa.py_buffer(data)), page_checksum_verification=True, use_threads=False
    )
    metadata = table.schema.metadata
    for name in (UNIT, SHARD):
        value = metadata[f"kdcache.{name}".encode()].decode() or None
        table = table.append_column(name, pa.array([value] * table.num_rows, pa.string()))
    return table.replace_schema_metadata(None)


def empty_part(columns: Iterable[str]) -> pa.Table:
    """No rows, with the columns that every part has."""
    schema = catalogue_schema(columns)
    for name in (UNIT, SHARD):
        schema = schema.append(pa.field(name, pa.string()))
    return schema.empty_table()


def _good_row(item: PackedUtterance, places: Mapping[str, int]) -> dict[str, Any]:
    row = {
        "id": item.utterance.id,
        "text": item.utterance.text,
        "speaker": item.utterance.speaker,
        "tokens": [int(token) for token in item.tokens],
        "duration": float(item.duration),
        "frames": int(item.frames),
        "checksum": content_hash(item.columns),
    }
    row |= {f"fidelity.{name}": float(value) for name, value in item.fidelity.items()}
    for name, array in item.columns.items():
        row[f"at.{name}"] = places[name]
        row[f"shape.{name}"] = list(array.shape)
        row[f"xxh3.{name}"] = column_hash(array)
    return row


def _failed_row(item: FailedUtterance) -> dict[str, Any]:
    told = item.utterance.audio.duration is not None
    return {
        "id": item.utterance.id,
        "text": item.utterance.text,
        "speaker": item.utterance.speaker,
        "duration": item.utterance.duration if told else None,
        "error": item.code,
        "message": item.message,
    }
