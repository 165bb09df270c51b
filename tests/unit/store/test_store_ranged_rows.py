"""Rows of a large index in an object store: the same as whole columns give, in few requests."""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcache.errors import DamagedCacheError, UnknownUtteranceError
from kdcache.store import compact, create_or_open, open_cache
from kdcache.store.arrow_places import read_batches
from kdcache.store.files import FileRecord
from kdcache.store.index import plain
from kdcache.store.places import open_storage
from kdcache.store.ranged_ids import RangedIds
from kdcache.store.ranged_rows import RangedRows
from kdcache.store.ranged_table import RangedTable
from kdcache.testing.samples import TOKENIZER_FILES, sample_failed, sample_packed, sample_spec

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = st.one_of(st.none(), st.text(max_size=5))
KINDS = {
    "text": (pa.large_string(), TEXTS),
    "short": (pa.string(), TEXTS),
    "raw": (pa.large_binary(), st.one_of(st.none(), st.binary(max_size=5))),
    "code": (pa.dictionary(pa.int32(), pa.string()), TEXTS),
    "seconds": (pa.float64(), st.one_of(st.none(), st.floats(allow_nan=False))),
    "at": (pa.int64(), st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1))),
    "hash": (pa.uint64(), st.integers(0, 2**64 - 1)),
    "tokens": (
        pa.large_list(pa.int32()),
        st.one_of(st.none(), st.lists(st.integers(-9, 9), max_size=4)),
    ),
    "nothing": (pa.null(), st.none()),
}


class Kept:
    """A file that counts what is asked of it."""

    folder = None

    def __init__(self, data: bytes) -> None:
        self.data, self.rounds, self.requests, self.bytes = data, 0, 0, 0

    def read_ranges(self, key: str, spans: Any) -> list[np.ndarray]:
        self.rounds += 1
        self.requests += len(spans)
        self.bytes += sum(length for _, length in spans)
        return [np.frombuffer(self.data[a : a + n], np.uint8) for a, n in spans]


def arrow_file(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=max(1, table.num_rows))
    return sink.getvalue()


def rows_of(table: pa.Table) -> tuple[RangedRows, Kept]:
    kept = Kept(arrow_file(table))
    record = FileRecord("index/x", len(kept.data), "")
    return RangedRows(kept, record, table.schema), kept  # type: ignore[arg-type]


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    count = draw(st.integers(1, 20))
    columns = {
        name: pa.array(draw(st.lists(values, min_size=count, max_size=count)), kind)
        for name, (kind, values) in KINDS.items()
    }
    return pa.table(columns)


@settings(max_examples=60, deadline=None)
@given(table=tables(), data=st.data())
def test_rows_are_those_of_the_table(table: pa.Table, data: st.DataObject) -> None:
    rows, kept = rows_of(table)
    assert rows.count == len(table)
    start = data.draw(st.integers(0, len(table) - 1))
    count = data.draw(st.integers(1, len(table) - start))
    kept.rounds = 0
    found = rows.slice(start, count, table.column_names)
    assert found.to_pylist() == table.slice(start, count).to_pylist()
    found.validate(full=True)
    if count == 1:
        assert kept.rounds <= 3
    places = data.draw(st.lists(st.integers(0, len(table) - 1), min_size=1, max_size=5))
    assert rows.pick(places, "text") == [table["text"][place].as_py() for place in places]


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_what_is_no_arrow_file_is_damage(data: st.DataObject) -> None:
    """Whatever bytes are changed: it is read, or told; never a crash of another kind."""
    whole = bytearray(arrow_file(pa.table({"a": pa.array(["x", "y"], pa.large_string())})))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(len(whole) // 2, len(whole)))])
    with contextlib.suppress(DamagedCacheError):
        read_batches(lambda span: cut[span[0] : span[0] + span[1]], len(cut))


def test_compressed_buffers_are_refused() -> None:
    sink, table = io.BytesIO(), pa.table({"a": list(range(1000))})
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_file(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    data = sink.getvalue()
    with pytest.raises(DamagedCacheError, match="compressed"):
        read_batches(lambda span: data[span[0] : span[0] + span[1]], len(data))


# Ids


@settings(max_examples=100, deadline=None)
@given(
    st.sets(st.text(st.characters(codec="utf-8"), max_size=4), min_size=1, max_size=60),
    st.lists(st.text(st.characters(codec="utf-8"), max_size=4), max_size=10),
)
def test_ids_are_found_as_in_a_dictionary(ids: set[str], asked: list[str]) -> None:
    ordered = sorted(ids, key=str.encode)
    table = pa.table({"id": pa.array(ordered, pa.large_string())})
    rows, _ = rows_of(table)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kdcache.store.ranged_ids.BLOCK", 3)
        patch.setattr("kdcache.store.ranged_ids._AT_ONCE", 2)
        found = RangedIds(Columns(table, rows))  # type: ignore[arg-type]
        for key in [*asked, *ordered]:
            before = [name for name in ordered if name.encode() < key.encode()]
            assert found.bisect(key) == len(before)
        assert [found[place] for place in range(len(found))] == ordered
        assert found[1:3] == ordered[1:3]
        assert found[::2] == ordered[::2]
        assert list(found) == ordered


class Columns:
    """A table with columns and rows on demand."""

    def __init__(self, table: pa.Table, rows: RangedRows) -> None:
        self.table, self.rows, self.fetched = table, rows, 0

    def __getitem__(self, name: str) -> pa.ChunkedArray:
        self.fetched += 1
        return self.table[name]


def test_an_id_takes_few_requests_and_many_ids_the_column() -> None:
    table = pa.table({"id": pa.array([f"utt-{n:08d}" for n in range(300_000)], pa.large_string())})
    rows, kept = rows_of(table)
    columns = Columns(table, rows)
    ids = RangedIds(columns)  # type: ignore[arg-type]
    kept.rounds = kept.requests = kept.bytes = 0
    assert ids.bisect("utt-00123456") == 123_456
    assert ids[123_456] == "utt-00123456"
    assert (kept.rounds, columns.fetched) == (4, 0)
    assert kept.requests < 50
    assert kept.bytes < len(kept.data) / 8
    for place in range(0, 300_000, 10_000):
        assert ids.bisect(f"utt-{place:08d}") == place
    assert columns.fetched == 1


# A whole cache


def test_one_utterance_of_a_large_cache_takes_no_column(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("obstore", reason="object stores need obstore")
    url = f"memory://ranged/{tmp_path.name}"
    writer = create_or_open(url, sample_spec(), "webdataset", TOKENIZER_FILES)
    for unit, ids in {"u0": "ace", "u1": "bd"}.items():
        packed = [sample_packed(writer.spec, name) for name in ids]
        writer.commit(unit, packed, [sample_failed(f"bad-{unit}")], "x")
    compact(url)
    plainly = open_cache(url)
    monkeypatch.setattr("kdcache.store.index.CHECKED_BYTES", 0)
    cache = open_cache(url)
    assert isinstance(cache._snapshot.columns, RangedTable)
    with monkeypatch.context() as patch:
        patch.setattr(RangedTable, "__getitem__", None)
        for key in "dab":
            one = cache.only(key)
            assert (list(one), len(one), one.units) == ([key], 1, cache.units)
            row = plain(plainly.catalogue).slice(plainly.row_of(key), 1)
            assert one.catalogue.to_pylist() == row.select(one.catalogue_names).to_pylist()
            for name, array in plainly.read_columns(key).items():
                np.testing.assert_array_equal(one.read_columns(key)[name], array)
        assert cache.only("bad-u0") is cache
        with pytest.raises(UnknownUtteranceError, match="'bb' among the 5 .* Nearest: 'b'"):
            cache.only("bb").row_of("bb")
    assert {key: len(cache[key]) for key in cache} == {key: len(plainly[key]) for key in plainly}
    assert plainly.only("a") is plainly
    storage = open_storage(url)
    [table] = [entry for entry in storage.entries("index") if "/good-" in entry.key]
    fresh = open_cache(url)
    storage.delete(table.key)
    with pytest.raises(DamagedCacheError, match="the file is missing"):
        fresh.only("a")
