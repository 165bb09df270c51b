"""An index changes how fast a cache opens, and nothing else, whatever happens to it."""

from __future__ import annotations

import pickle
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdcache.errors import DamagedCacheError, UnknownUtteranceError
from kdcache.store import (
    collect_garbage,
    compact,
    convert,
    create_or_open,
    drop_damaged_index,
    find_damage,
    find_garbage,
    open_cache,
    open_for_write,
    set_aside,
    verify,
)
from kdcache.store.files import FileRecord
from kdcache.store.index import INDEX_KEY, plain
from kdcache.store.places import open_storage
from kdcache.store.ranged_table import RangedTable, _RangedFile
from kdcache.store.sorted_strings import RowsById, SortedStrings
from kdcache.testing.samples import TOKENIZER_FILES, sample_failed, sample_packed, sample_spec
from kdcache.testing.store_contract import ODD_IDS, flip_bit

if TYPE_CHECKING:
    from collections.abc import Callable

    from kdcache.store import Cache

SMAPS = Path("/proc/self/smaps")
IDS = {"u0": ["b", "a", *ODD_IDS], "u1": ["c"], "u2": ["d", "e"]}


@pytest.fixture(params=["zarr", "webdataset"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    writer = create_or_open(tmp_path / "cache", sample_spec(), request.param, TOKENIZER_FILES)
    for unit, ids in IDS.items():
        packed = [sample_packed(writer.spec, name) for name in ids]
        packed[0].columns.pop("lattice.ids")  # type: ignore[attr-defined]
        writer.commit(unit, packed, [sample_failed(f"bad-{unit}")], "x")
    return tmp_path / "cache"


def indexed(cache: Cache) -> bool:
    """Whether it was opened through its index alone."""
    return cache._snapshot.index is not None and not cache._snapshot.units


def everything(cache: Cache) -> object:
    """All that a reader can see, comparable."""
    arrays = {
        (utterance, name): (array.dtype.str, array.shape, array.tobytes())
        for utterance in cache
        for name, array in cache.read_columns(utterance).items()
    }
    shapes = {name: cache.column_shapes(name).tolist() for name in cache.columns}
    names = sorted(cache.catalogue.column_names)
    rows = plain(cache.catalogue).select(names).to_pylist()
    failures = cache.failures.to_pylist()
    return arrays, shapes, rows, failures, cache.ids, cache.units, cache.nbytes, len(cache)


def test_it_opens_to_the_same(path: Path) -> None:
    before, digest = everything(open_cache(path)), open_cache(path).content_digest()
    report = compact(path)
    assert (report.units, report.utterances, report.failed, report.files) == (3, 12, 3, 4)
    cache = open_cache(path)
    assert indexed(cache)
    assert everything(cache) == before
    assert cache.content_digest() == digest
    assert verify(path) == []
    assert "b" in cache
    assert "zz" not in cache
    assert cache.get("zz") is None
    with pytest.raises(UnknownUtteranceError, match="no utterance 'zz'"):
        cache["zz"]
    with pytest.raises(UnknownUtteranceError, match="bad-u1: truncated"):
        cache["bad-u1"]
    assert pickle.loads(pickle.dumps(cache)).ids == cache.ids


def test_it_needs_no_part_and_no_commit_record(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compact(path)
    opened: list[str] = []
    for name in ("read", "map"):
        real = getattr(type(open_storage(path)), name)

        def spy(storage: object, key: str, real: Callable[..., object] = real) -> object:
            opened.append(key)
            return real(storage, key)

        monkeypatch.setattr(f"kdcache.store.local.LocalStorage.{name}", spy)
    cache = open_cache(path)
    assert [key.partition("/")[0] for key in opened] == ["kdcache.json", *["index"] * 4]
    opened.clear()
    assert cache["a"].keys() == {"lattice", "encoder_logits", "hidden"}
    assert [key.partition("/")[0] for key in opened] == ["data"]


def test_rows_are_views_of_the_mapped_file(path: Path) -> None:
    compact(path)
    places = open_cache(path)._snapshot.places["hidden.values"]
    for array in (places.at_N, places.shape_NA, places.hash_N):
        assert not array.flags.owndata
        assert not array.flags.writeable


@pytest.mark.skipif(not SMAPS.exists(), reason="needs /proc/self/smaps, as of Linux")
def test_checking_the_index_does_not_fill_memory_with_it(path: Path) -> None:
    writer = open_for_write(path)
    item = sample_packed(writer.spec, "long")
    long = "a text of many words " * 4000
    items = [
        replace(item, utterance=replace(item.utterance, id=f"long-{n:03d}", text=long))
        for n in range(400)
    ]
    writer.commit("u9", items, [], "y")
    compact(path)
    cache = open_cache(path)
    assert indexed(cache)
    size, resident = mapped_bytes("index/good-")
    assert size > 400 * len(long)
    assert resident < size / 4


@pytest.mark.skipif(not SMAPS.exists(), reason="needs /proc/self/smaps, as of Linux")
def test_the_system_reads_ahead_in_the_index_and_not_in_shards(path: Path) -> None:
    """What is read at random must not fetch its neighbours, and a column must."""
    compact(path)
    cache = open_cache(path)
    cache.read_columns("a")
    flags = re.findall(rf"{path}/(\w+)/\S+.*?VmFlags: ([^\n]+)", SMAPS.read_text(), re.DOTALL)
    assert flags
    of = {folder: flag.split() for folder, flag in flags}
    assert "rr" not in of["index"]
    assert all("rr" in flag for folder, flag in of.items() if folder != "index")


def mapped_bytes(name: str) -> tuple[int, int]:
    """Bytes of the last mapping of such a file, and how many of them are in memory of ours."""
    mappings = SMAPS.read_text().split(name)
    told = dict(re.findall(r"^(Size|Rss):\s+(\d+) kB", mappings[-1], re.MULTILINE)[:2])
    return 1024 * int(told["Size"]), 1024 * int(told["Rss"])


def test_later_commits_are_seen_on_top(path: Path) -> None:
    compact(path)
    cache = open_cache(path)
    writer = open_for_write(path)
    writer.commit(
        "t0", [sample_packed(writer.spec, "a", 9), sample_packed(writer.spec, "new")], [], ""
    )
    writer.commit("t1", [sample_packed(writer.spec, "bad-u1")], [], "")
    assert indexed(cache)
    cache.refresh()
    fresh = open_cache(path)
    assert not indexed(cache)
    (path / INDEX_KEY).rename(path / "away.json")
    plainly = open_cache(path)
    assert everything(cache) == everything(fresh) == everything(plainly)
    assert cache.catalogue["unit"][cache.ids.index("a")].as_py() == "t0"
    assert cache.content_digest() == plainly.content_digest()
    (path / "away.json").rename(path / INDEX_KEY)
    compact(path)
    again = open_cache(path)
    assert indexed(again)
    assert everything(again) == everything(plainly)


def test_an_index_of_a_unit_that_is_gone_is_left_aside(path: Path) -> None:
    compact(path)
    (path / "commits" / "u1.json").unlink()
    cache = open_cache(path)
    assert cache._snapshot.index is None
    assert "c" not in cache


def test_repair_drops_it_and_a_unit_comes_back(path: Path) -> None:
    digest = open_cache(path).content_digest()
    compact(path)
    files = open_storage(path)
    flip_bit(files, files.entries("data")[1].key, 8 * 300)
    set_aside(path, find_damage(path).units)
    assert not files.exists(INDEX_KEY)
    assert verify(path) == []
    writer = open_for_write(path)
    item = sample_packed(writer.spec, "c")
    item.columns.pop("lattice.ids")  # type: ignore[attr-defined]
    writer.commit("u1", [item], [sample_failed("bad-u1")], "x")
    assert open_cache(path).content_digest() == digest


def test_a_flipped_bit_is_found_and_does_no_harm(path: Path) -> None:
    before = everything(open_cache(path))
    compact(path)
    files, rng = open_storage(path), np.random.default_rng(3)
    for entry in files.entries("index"):
        for _ in range(5):
            bit = int(rng.integers(entry.size * 8))
            flip_bit(files, entry.key, bit)
            assert {d.file for d in verify(path)} == {entry.key}
            cache = open_cache(path)
            assert cache._snapshot.index is None
            assert everything(cache) == before
            flip_bit(files, entry.key, bit)
    flip_bit(files, INDEX_KEY, 99)
    assert drop_damaged_index(path, find_damage(path)) == [INDEX_KEY]
    assert verify(path) == []


def test_an_index_of_other_commits_is_damage(path: Path) -> None:
    compact(path)
    commit = path / "commits" / "u1.json"
    commit.unlink()
    writer = open_for_write(path)
    writer.commit("u1", [sample_packed(writer.spec, "c", 8)], [], "another")
    (damage,) = verify(path)
    assert (damage.file, damage.what) == (INDEX_KEY, "it is not about commits/u1.json")


def test_old_tables_are_garbage(path: Path) -> None:
    compact(path)
    writer = open_for_write(path)
    writer.commit("u9", [sample_packed(writer.spec, "z")], [], "x")
    assert find_garbage(path) == []
    compact(path)
    assert len(collect_garbage(path, 0)) == 2
    assert indexed(open_cache(path))
    (path / INDEX_KEY).unlink()
    assert len(find_garbage(path)) == 3


def test_compacting_twice_is_the_same_bytes(path: Path) -> None:
    compact(path)
    first = {e.key: (path / e.key).read_bytes() for e in open_storage(path).entries("index")}
    compact(path)
    assert first == {
        e.key: (path / e.key).read_bytes() for e in open_storage(path).entries("index")
    }


def test_a_damaged_part_cannot_be_compacted(path: Path) -> None:
    files = open_storage(path)
    flip_bit(files, files.entries("catalogue")[0].key, 800)
    with pytest.raises(DamagedCacheError, match="catalogue/u0"):
        compact(path)


def test_an_indexed_cache_is_converted(path: Path, tmp_path: Path) -> None:
    compact(path)
    digest = open_cache(path).content_digest()
    assert convert(path, tmp_path / "there", unit_utterances=5).content_digest == digest


def test_an_empty_cache_has_an_index_too(tmp_path: Path) -> None:
    create_or_open(tmp_path, sample_spec(), "webdataset", TOKENIZER_FILES)
    compact(tmp_path)
    cache = open_cache(tmp_path)
    assert (len(cache), cache.ids, cache.units, list(cache)) == (0, [], [], [])
    assert cache.column_shapes("hidden.values").shape == (0, 2)


def test_in_an_object_store(tmp_path: Path) -> None:
    pytest.importorskip("obstore", reason="object stores need obstore")
    url = f"memory://index/{tmp_path}"
    writer = create_or_open(url, sample_spec(), "webdataset", TOKENIZER_FILES)
    writer.commit("u0", [sample_packed(writer.spec, name) for name in "ab"], [], "x")
    before = everything(open_cache(url))
    compact(url)
    assert indexed(open_cache(url))
    assert everything(open_cache(url)) == before


@given(st.sets(st.text(max_size=8)))
def test_rows_by_id_is_a_dictionary(ids: set[str]) -> None:
    ordered = sorted(ids, key=lambda name: name.encode("utf-8", "surrogatepass"))
    ordered = [name for name in ordered if name.isprintable()]
    rows = RowsById(SortedStrings(pa.chunked_array([pa.array(ordered, pa.large_string())])))
    assert dict(rows) == {name: row for row, name in enumerate(ordered)}
    for name in ["", "zz", "ü", *(f"{name}x" for name in ordered)]:
        assert (name in rows) == (name in ordered)


# Large indexes in object stores


def test_only_the_columns_that_are_asked_for_are_fetched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("obstore", reason="object stores need obstore")
    url = f"memory://index/{tmp_path.name}"
    writer = create_or_open(url, sample_spec(), "webdataset", TOKENIZER_FILES)
    for unit, ids in IDS.items():
        writer.commit(unit, [sample_packed(writer.spec, name) for name in ids], [], "x")
    compact(url)
    before = everything(open_cache(url))
    monkeypatch.setattr("kdcache.store.index.CHECKED_BYTES", 0)
    storage = open_storage(url)
    [table] = [entry for entry in storage.entries("index") if "/good-" in entry.key]
    asked: list[int] = []
    plain_ranges = type(storage).read_ranges

    def read_ranges(self: object, key: str, spans: list[tuple[int, int]]) -> object:
        if key == table.key:
            asked.extend(length for _, length in spans)
        return plain_ranges(self, key, spans)  # type: ignore[arg-type]

    monkeypatch.setattr(type(storage), "read_ranges", read_ranges)
    cache = open_cache(url)
    assert isinstance(cache._snapshot.columns, RangedTable)
    durations = cache.catalogue_columns(["duration"])["duration"].to_pylist()
    assert durations == [row["duration"] for row in before[2]]  # type: ignore[index]
    assert sum(asked) < table.size
    asked.clear()
    cache.read_target("b", "hidden")
    cache.read_target("c", "hidden")
    fetched = sum(asked)
    cache.read_target("d", "hidden")
    assert sum(asked) == fetched, "columns that came are kept"
    assert everything(cache) == before
    assert cache.content_digest() == open_cache(url).content_digest()
    with pytest.raises(KeyError, match="colour"):
        cache.catalogue_columns(["colour"])


@given(st.integers(0, 300), st.integers(0, 300), st.integers(1, 40))
def test_a_ranged_file_reads_as_a_file(start: int, size: int, piece: int) -> None:
    import io

    data = bytes(range(256))

    class Bytes:
        def read_ranges(self, key: str, spans: list[tuple[int, int]]) -> list[np.ndarray]:
            return [np.frombuffer(data[a : a + n], np.uint8) for a, n in spans]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kdcache.store.ranged_table._PIECE", piece)
        file = _RangedFile(Bytes(), FileRecord("index/x", len(data), ""), {})  # type: ignore[arg-type]
        plain_file = io.BytesIO(data)
        assert file.seek(min(start, 256)) == plain_file.seek(min(start, 256))
        assert bytes(file.read(size)) == plain_file.read(size)
        assert file.tell() == plain_file.tell()
        assert file.seek(-3, 2) == plain_file.seek(-3, 2)
        assert bytes(file.read()) == plain_file.read()


@pytest.mark.parametrize("change", ["cut", "gone", "other"])
def test_a_damaged_large_index_is_left_aside(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, change: str
) -> None:
    pytest.importorskip("obstore", reason="object stores need obstore")
    url = f"memory://index/{tmp_path.name}"
    writer = create_or_open(url, sample_spec(), "webdataset", TOKENIZER_FILES)
    writer.commit("u0", [sample_packed(writer.spec, name) for name in "abc"], [], "x")
    compact(url)
    monkeypatch.setattr("kdcache.store.index.CHECKED_BYTES", 0)
    storage = open_storage(url)
    [table] = [entry for entry in storage.entries("index") if "/good-" in entry.key]
    if change == "gone":
        storage.delete(table.key)
    else:
        data = storage.read(table.key)
        storage.put(table.key, data[:-9] if change == "cut" else bytes(len(data)))
    cache = open_cache(url)
    assert not indexed(cache)
    assert cache.ids == ["a", "b", "c"]
