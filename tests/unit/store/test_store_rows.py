"""Many rows at once are what they are one by one, in one read a shard; damage has its name."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kdcache.codec import ColumnSpec
from kdcache.errors import ConfigError, DamagedCacheError, UnknownUtteranceError
from kdcache.store import PackedUtterance, create_or_open, open_cache
from kdcache.store.catalogue import build_part, read_part
from kdcache.store.columns import read_column, span_of
from kdcache.store.files import FileRecord
from kdcache.store.layout import make_layout
from kdcache.store.packed import parse_unit
from kdcache.store.places import open_storage
from kdcache.store.rows import read_rows
from kdcache.store.snapshot import places_of
from kdcache.testing.samples import TOKENIZER_FILES, sample_packed, sample_spec, sample_utterance
from kdcache.testing.store_contract import flip_bit

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from kdcache.store import Cache
    from kdcache.store.storage import Span

DTYPES = ["bool", "int8", "uint16", "int64", "float16", "float32"]
TARGETS = ["lattice", "hidden"]


class Bytes:
    """A shard reader over files in memory that counts its reads."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = {path: np.frombuffer(data, np.uint8) for path, data in files.items()}
        self.reads: Counter[str] = Counter()

    def read(self, file: FileRecord, spans: Sequence[Span]) -> list[np.ndarray]:
        self.reads[file.path] += 1
        return [self.files[file.path][start : start + length] for start, length in spans]


@st.composite
def shards(draw: Any) -> tuple[dict[str, ColumnSpec], list[list[PackedUtterance]]]:
    columns = {
        f"t{i}.c": ColumnSpec(draw(st.sampled_from(DTYPES)), draw(st.integers(1, 3)), i > 0)
        for i in range(draw(st.integers(1, 3)))
    }
    units = []
    for unit in range(draw(st.integers(1, 3))):
        packed = []
        for index in range(draw(st.integers(1, 3))):
            arrays = {}
            for name, spec in columns.items():
                if spec.optional and draw(st.booleans()):
                    continue
                shape = tuple(draw(st.integers(0, 3)) for _ in range(spec.ndim))
                arrays[name] = draw(hnp.arrays(spec.dtype, shape))
            utterance = sample_utterance(f"{unit}/{index}")
            packed.append(PackedUtterance(utterance, 1.0, (), 1, arrays))
        units.append(packed)
    return columns, units


@pytest.mark.parametrize("layout", ["zarr", "webdataset"])
@settings(max_examples=25, deadline=None, derandomize=True)
@given(given_=shards(), data=st.data())
def test_any_arrays_at_once_are_those_one_by_one(
    layout: str,
    given_: tuple[dict[str, ColumnSpec], list[list[PackedUtterance]]],
    data: st.DataObject,
) -> None:
    columns, units = given_
    parts, files, stored = [], [], {}
    for number, packed in enumerate(units):
        items = parse_unit(packed, [], columns)
        shard = make_layout(layout).build(items, columns)
        record = FileRecord.of(f"data/{number}", shard.data)
        stored[record.path] = shard.data
        parts.append(
            read_part(build_part(f"u{number}", record.path, items, shard.offsets, [], columns))
        )
        files += [record] * len(packed)
    places = places_of(pa.concat_tables(parts).combine_chunks(), columns)
    rows = data.draw(st.lists(st.integers(0, len(files) - 1), min_size=1, max_size=6))
    reader = Bytes(stored)
    found = read_rows(reader, [files[row] for row in rows], rows, list(places.values()))
    assert reader.reads == Counter({files[row].path for row in rows})
    for column, arrays_R in zip(places.values(), found, strict=True):
        for row, array in zip(rows, arrays_R, strict=True):
            span = span_of(column, row)
            if span is None:
                assert array is None
                continue
            raw = reader.files[files[row].path][span[0] : sum(span)]
            expected = read_column(raw, column, row)
            assert array is not None
            assert (array.dtype, array.shape) == (expected.dtype, expected.shape)
            assert array.tobytes() == expected.tobytes()
            assert not array.flags.writeable


def test_a_row_without_a_required_column_is_damage() -> None:
    columns = {"t.c": ColumnSpec("uint8", 1, optional=True)}
    item = PackedUtterance(sample_utterance("a"), 1.0, (), 1, {})
    part = read_part(build_part("u", "data/x", [item], [{}], [], columns))
    [place] = places_of(part, columns).values()
    file, reader = FileRecord.of("data/x", b""), Bytes({"data/x": b""})
    assert read_rows(reader, [file], [0], [place]) == [[None]]
    with pytest.raises(DamagedCacheError, match="does not say where"):
        read_rows(reader, [file], [0], [replace(place, optional=False)])


@pytest.fixture(params=["zarr", "webdataset"])
def cache(tmp_path: Path, request: pytest.FixtureRequest) -> Cache:
    writer = create_or_open(tmp_path / "cache", sample_spec(), request.param, TOKENIZER_FILES)
    for unit in range(3):
        packed = [sample_packed(writer.spec, f"{unit}-{i}") for i in range(3)]
        writer.commit(f"u{unit}", packed, [], "x")
    return open_cache(tmp_path / "cache")


def test_a_cache_gives_rows_in_the_order_asked_for(cache: Cache) -> None:
    keys: list[str | int] = [4, "2-1", 0, 4, "0-0"]
    found = cache.read_packed_rows(keys, TARGETS)
    assert list(found) == TARGETS
    for place, key in enumerate(keys):
        expected = cache.read_packed(key, TARGETS)
        for name in TARGETS:
            assert found[name][place].keys() == expected[name].keys()
            for array, values in expected[name].items():
                np.testing.assert_array_equal(found[name][place][array], values)
    assert cache.read_packed_rows([0], []) == {}
    assert cache.read_packed_rows([], TARGETS) == {name: [] for name in TARGETS}


def test_what_is_not_there_is_said(cache: Cache) -> None:
    with pytest.raises(UnknownUtteranceError, match="row 9 is not among"):
        cache.read_packed_rows([0, 9], TARGETS)
    with pytest.raises(UnknownUtteranceError, match="Nearest"):
        cache.read_packed_rows(["0-0", "0-9"], TARGETS)
    with pytest.raises(ConfigError, match="Did you mean 'lattice'"):
        cache.read_packed_rows([0], ["latice"])


@pytest.mark.parametrize("victim", range(9))
def test_a_flipped_bit_is_named(cache: Cache, victim: int) -> None:
    row = cache.catalogue.slice(victim, 1).to_pylist()[0]
    flip_bit(open_storage(cache.location), row["shard"], 8 * row["at.hidden.values"] + 3)
    with pytest.raises(DamagedCacheError, match=rf"'{row['id']}', column hidden\.values"):
        cache.read_packed_rows(list(range(9)), TARGETS)
    whole = [key for key in range(9) if key != victim]
    assert len(cache.read_packed_rows(whole, TARGETS)["hidden"]) == 8


def test_a_shard_that_is_cut_short_or_gone_is_named(cache: Cache) -> None:
    shard = cache.path / cache.catalogue["shard"][4].as_py()
    data = shard.read_bytes()
    for left in (data[: len(data) // 2], b"", None):
        shard.unlink()
        if left is not None:
            shard.write_bytes(left)
        with pytest.raises(DamagedCacheError, match=shard.name):
            open_cache(cache.path).read_packed_rows([0, 4, 8], TARGETS)
