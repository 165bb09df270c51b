"""Any arrays through both layouts and the catalogue, down to the mapped slice."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kdcache.codec import ColumnSpec
from kdcache.errors import ConfigError, DamagedCacheError
from kdcache.store import PackedUtterance, create_or_open, open_cache
from kdcache.store.catalogue import build_part, read_part
from kdcache.store.checksums import content_hash
from kdcache.store.columns import read_column, span_of
from kdcache.store.files import FileRecord
from kdcache.store.layout import make_layout
from kdcache.store.packed import parse_unit
from kdcache.store.snapshot import places_of
from kdcache.testing.samples import sample_packed, sample_spec, sample_utterance

if TYPE_CHECKING:
    from pathlib import Path

DTYPES = ["bool", "int8", "uint8", "uint16", "int64", "uint64", "float16", "float32", "float64"]


@st.composite
def units(draw: Any) -> tuple[dict[str, ColumnSpec], list[PackedUtterance]]:
    columns = {
        f"t{i}.c": ColumnSpec(draw(st.sampled_from(DTYPES)), draw(st.integers(1, 3)), i > 0)
        for i in range(draw(st.integers(1, 3)))
    }
    packed = []
    for index in range(draw(st.integers(1, 4))):
        arrays = {}
        for name, spec in columns.items():
            if spec.optional and draw(st.booleans()):
                continue
            shape = tuple(draw(st.integers(0, 3)) for _ in range(spec.ndim))
            arrays[name] = draw(hnp.arrays(spec.dtype, shape))
        packed.append(PackedUtterance(sample_utterance(f"u/{index}"), 1.0, (), 1, arrays))
    return columns, packed


@pytest.mark.parametrize("layout", ["zarr", "webdataset"])
@settings(max_examples=25, deadline=None, derandomize=True)
@given(unit=units())
def test_any_arrays_come_back(
    layout: str, unit: tuple[dict[str, ColumnSpec], list[PackedUtterance]]
) -> None:
    columns, packed = unit
    items = parse_unit(packed, [], columns)
    shard = make_layout(layout).build(items, columns)
    assert make_layout(layout).build(items, columns) == shard
    part = build_part("u0", "data/x", items, shard.offsets, [], columns)
    table, data = read_part(part), np.frombuffer(shard.data, np.uint8)
    places = places_of(table, columns)
    for row, item in enumerate(packed):
        assert table["checksum"][row].as_py() == content_hash(items[row].columns)
        for name in columns:
            span = span_of(places[name], row)
            found = span and read_column(data[span[0] : sum(span)], places[name], row)
            if name not in item.columns:
                assert found is None
                continue
            assert found is not None
            assert found.dtype == item.columns[name].dtype
            assert found.shape == item.columns[name].shape
            assert found.tobytes() == item.columns[name].tobytes()


def test_unknown_layouts_are_said() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'zarr'"):
        make_layout("zar")


def test_arrays_of_any_memory_order_are_stored_in_one() -> None:
    column = {"t.c": ColumnSpec("int16", 2)}
    plain = np.arange(12, dtype="<i2").reshape(3, 4)
    hashes = set()
    for array in (plain, np.asfortranarray(plain), plain.astype(">i2"), plain[::-1][::-1]):
        item = PackedUtterance(sample_utterance("a"), 1.0, (), 1, {"t.c": array})
        (parsed,) = parse_unit([item], [], column)
        assert parsed.columns["t.c"].tobytes() == plain.tobytes()
        hashes.add(content_hash(parsed.columns))
    assert len(hashes) == 1


def test_a_content_hash_tells_names_dtypes_and_shapes_apart() -> None:
    zeros = np.zeros((2, 3), np.uint8)
    variants = [
        {"a": zeros},
        {"b": zeros},
        {"a": zeros.reshape(3, 2)},
        {"a": zeros.view(np.int8)},
        {"a": zeros, "b": zeros},
        {"a": zeros + 1},
    ]
    assert len({content_hash(columns) for columns in variants}) == len(variants)
    assert content_hash({"a": zeros, "b": zeros}) == content_hash({"b": zeros, "a": zeros})


def test_a_row_without_a_required_column_is_damage() -> None:
    columns = {"t.c": ColumnSpec("uint8", 1, optional=True)}
    item = PackedUtterance(sample_utterance("a"), 1.0, (), 1, {})
    part = read_part(build_part("u", "data/x", [item], [{}], [], columns))
    required = {"t.c": replace(columns["t.c"], optional=False)}
    with pytest.raises(DamagedCacheError, match="does not say where"):
        span_of(places_of(part, required)["t.c"], 0)


@pytest.mark.parametrize("path", ["../x", "data/../../x", "/etc/passwd", "kdcache.json", ""])
def test_records_name_files_of_the_cache_alone(path: str) -> None:
    with pytest.raises(ValueError, match="no file of a cache"):
        FileRecord.from_dict({"path": path, "size": 1, "xxh3": "0"})


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".."])
def test_tokenizer_files_lie_in_their_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="tokenizer's file"):
        create_or_open(tmp_path / "cache", sample_spec(), "zarr", {name: b""})


def test_a_cache_imports_no_codec_module_unasked(tmp_path: Path) -> None:
    spec = sample_spec()
    writer = create_or_open(tmp_path / "cache", spec, "webdataset", {})
    writer.commit("u0", [sample_packed(spec, "a")], [], "x")
    cache = open_cache(tmp_path / "cache")
    foreign = replace(spec.targets[0], codec={"name": "this:Codec"})
    object.__setattr__(cache._header, "spec", replace(spec, targets=(foreign, *spec.targets[1:])))
    with pytest.raises(ConfigError, match="import_codecs=True"):
        cache.read_target("a", "lattice")
    assert cache.read_target("a", "hidden") is not None
    assert cache.read_columns("a")["lattice.logp"].size > 0
