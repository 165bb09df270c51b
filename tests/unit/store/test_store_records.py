"""Seals, headers, commit records and specs: what they say, and what they refuse."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from kdcache.codec import ColumnSpec, LatticeCodec, Log8LogProb
from kdcache.errors import ConfigError, DamagedCacheError, NewerFormatError, NotACacheError
from kdcache.store import CacheSpec, create_or_open, open_cache, verify
from kdcache.store.commits import CommitRecord, parse_unit_name
from kdcache.store.files import FileRecord
from kdcache.store.header import HEADER, Header
from kdcache.store.seal import seal, unseal
from kdcache.store.spec import first_difference
from kdcache.testing.samples import TOKENIZER_FILES, sample_packed, sample_spec
from kdcache.types import TargetSpec

if TYPE_CHECKING:
    from pathlib import Path

VALUE = {"text": "ü", "number": 1.5, "nested": {"list": [1, None, True]}}


def test_a_seal_gives_its_value_back() -> None:
    assert unseal(seal(VALUE), "x") == VALUE
    assert seal(dict(reversed(VALUE.items()))) == seal(VALUE)


def test_every_flipped_bit_breaks_the_seal() -> None:
    sealed = seal(VALUE)
    for bit in range(len(sealed) * 8):
        damaged = bytearray(sealed)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DamagedCacheError, match="sealed"):
            unseal(bytes(damaged), "sealed")


@pytest.mark.parametrize("raw", [b"", b"[1]", b"null", b"{}", b"{}\n", b"[" * 100_000, b"\xff"])
def test_what_was_never_sealed_is_damage(raw: bytes) -> None:
    with pytest.raises(DamagedCacheError):
        unseal(raw, "x")


def header() -> Header:
    spec = sample_spec()
    return Header("zarr", spec, spec.columns(), (FileRecord("tokenizer/a", 1, "00"),))


def test_a_header_gives_itself_back() -> None:
    assert Header.from_bytes(header().to_bytes()) == header()


@pytest.mark.parametrize(
    "change",
    [
        {"spec_hash": "0"},
        {"columns": {"a": {"dtype": "object", "ndim": 1, "optional": False}}},
        {"columns": []},
        {"columns": {"a": {"dtype": "uint8", "ndim": 0, "optional": False}}},
        {"spec": {"teacher": 1}},
        {"tokenizer_files": [1]},
    ],
)
def test_a_header_that_cannot_be_is_damage(change: dict[str, Any]) -> None:
    value = {**json.loads(header().to_bytes()), **change}
    with pytest.raises(DamagedCacheError, match=r"kdcache\.json"):
        Header.from_bytes(seal(value))


def test_a_newer_format_is_said(tmp_path: Path) -> None:
    value = {**json.loads(header().to_bytes()), "format_version": 99, "layout": "later"}
    (tmp_path / HEADER).write_bytes(seal(value))
    for read in (open_cache, verify):
        with pytest.raises(NewerFormatError, match="format 99.*update kdcache"):
            read(tmp_path)


def test_a_damaged_version_is_damage_and_not_a_newer_format(tmp_path: Path) -> None:
    raw = header().to_bytes().replace(b'"format_version": 1', b'"format_version": 3')
    (tmp_path / HEADER).write_bytes(raw)
    assert [damage.file for damage in verify(tmp_path)] == [HEADER]


def test_a_missing_header_is_damage_where_commits_are(tmp_path: Path) -> None:
    writer = create_or_open(tmp_path, sample_spec(), "webdataset", TOKENIZER_FILES)
    writer.commit("u0", [sample_packed(writer.spec, "a")], [], "x")
    (tmp_path / HEADER).unlink()
    assert [(d.file, d.what) for d in verify(tmp_path)] == [(HEADER, "the file is missing")]
    with pytest.raises(NotACacheError):
        open_cache(tmp_path)


def commit() -> CommitRecord:
    file = FileRecord("data/u0-0.tar", 10, "ab")
    return CommitRecord("u0", "x", "00", file, replace(file, path="catalogue/u0"), 1, 2)


def test_a_commit_record_gives_itself_back() -> None:
    for record in (commit(), replace(commit(), shard=None)):
        assert CommitRecord.from_bytes(record.to_bytes(), "u0") == record


def test_a_commit_record_under_another_name_is_damage() -> None:
    with pytest.raises(DamagedCacheError, match="unit 'u0'"):
        CommitRecord.from_bytes(commit().to_bytes(), "u1")
    with pytest.raises(DamagedCacheError, match="catalogue"):
        CommitRecord.from_bytes(seal({"unit": "u0", "shard": None} | _partial()), "u0")


def _partial() -> dict[str, Any]:
    return {"attempt": "x", "spec_hash": "00", "utterances": 1, "failed": 0}


def test_a_commit_of_another_cache_is_damage(tmp_path: Path) -> None:
    for name, floor in (("one", 16.0), ("two", 12.0)):
        spec = sample_spec(floor=floor)
        writer = create_or_open(tmp_path / name, spec, "webdataset", TOKENIZER_FILES)
        writer.commit("u0", [sample_packed(writer.spec, "a")], [], "x")
    strange = (tmp_path / "two" / "commits" / "u0.json").read_bytes()
    (tmp_path / "one" / "commits" / "u0.json").write_bytes(strange)
    assert [damage.file for damage in verify(tmp_path / "one")] == ["commits/u0.json"]
    with pytest.raises(DamagedCacheError, match="another spec"):
        open_cache(tmp_path / "one")


@pytest.mark.parametrize("unit", ["u0", "shard-00001.of-9", "A" * 128])
def test_unit_names(unit: str) -> None:
    assert parse_unit_name(unit) == unit


@pytest.mark.parametrize("unit", ["", ".hidden", "a/b", "..", "ü", "A" * 129, "a b"])
def test_units_that_cannot_be_files_are_refused(unit: str) -> None:
    with pytest.raises(ConfigError, match="unit's name"):
        parse_unit_name(unit)


def test_a_spec_gives_itself_back() -> None:
    spec = sample_spec(audio="flac")
    again = CacheSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert again == spec
    assert again.spec_hash == spec.spec_hash


def test_a_spec_spells_settings_out() -> None:
    bare = replace(sample_spec().targets[0], codec={"name": "log8"})
    spelt = replace(sample_spec().targets[0], codec={"name": "log8", "floor": 16})
    one = replace(sample_spec(), targets=(bare,)).normalised()
    two = replace(sample_spec(), targets=(spelt,)).normalised()
    assert one.spec_hash == two.spec_hash
    assert one.targets[0].codec == {"name": "log8", "floor": 16.0}


def test_columns_are_named_by_target_and_array() -> None:
    columns = sample_spec(audio="flac").columns()
    assert list(columns) == sorted(columns)
    assert columns["lattice.logp"].dtype == "uint8"
    assert columns["encoder_logits.logp"].dtype == "float16"
    assert columns["audio"].ndim == 1
    assert columns["lattice.ids"].optional


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"audio": "flc"}, "Did you mean 'flac'"),
        ({"targets": (TargetSpec("Lattice.x", "lattice", "lattice"),)}, "Lattice.x"),
        ({"targets": (TargetSpec("audio", "hidden", "vector"),)}, "names must differ"),
        (
            {"targets": (TargetSpec("l", "lattice", "lattice", codec={"name": "log9"}),)},
            "Did you mean 'log8'",
        ),
        ({"targets": (TargetSpec("l", "x", "latice", codec={"name": "log8"}),)}, "latice"),
    ],
)
def test_a_spec_that_cannot_be_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(sample_spec(), **change).normalised()


def test_two_targets_of_one_name_are_refused() -> None:
    spec = sample_spec()
    with pytest.raises(ConfigError, match="names must differ"):
        replace(spec, targets=(spec.targets[0], spec.targets[0])).normalised()


def test_a_vocabulary_beyond_16_bits_is_refused_where_ids_are_kept() -> None:
    spec = sample_spec()
    large = replace(spec.teacher, vocab_size=70_000)
    with pytest.raises(ConfigError, match="70,000 classes exceeds the 65,534"):
        replace(spec, teacher=large).normalised()
    replace(spec, teacher=large, targets=(spec.targets[2],)).normalised()


def test_the_first_difference_is_named() -> None:
    stored = sample_spec().to_dict()
    assert first_difference(stored, stored) is None
    other = json.loads(json.dumps(stored))
    other["teacher"]["fingerprint"] = "2"
    expected = f"teacher.fingerprint is '{'1' * 64}' in the cache, '2' was asked for"
    assert first_difference(stored, other) == expected
    other = json.loads(json.dumps(stored))
    other["targets"].pop()
    assert str(first_difference(stored, other)).startswith("targets is [")
    assert first_difference({"a": 1}, {}) == "a is 1 in the cache, None was asked for"


class Scalar(LatticeCodec):
    """A codec that asks for what no layout holds."""

    def __init__(self, record: str, dtype: str, ndim: int) -> None:
        super().__init__(Log8LogProb())
        object.__setattr__(self, "column", ColumnSpec(dtype, ndim))

    def columns(self) -> dict[str, ColumnSpec]:
        return {"logp": self.column}  # type: ignore[attr-defined]

    def to_dict(self) -> dict[str, Any]:
        column: ColumnSpec = self.column  # type: ignore[attr-defined]
        return {"name": f"{__name__}:Scalar", "dtype": column.dtype, "ndim": column.ndim}


@pytest.mark.parametrize(("dtype", "ndim"), [("uint8", 0), ("object", 1), ("U5", 1)])
def test_columns_that_no_layout_holds_are_refused(dtype: str, ndim: int) -> None:
    codec = {"name": f"{__name__}:Scalar", "dtype": dtype, "ndim": ndim}
    target = TargetSpec("l", "lattice", "lattice", {}, codec)
    with pytest.raises(ConfigError, match=r"column l\.logp cannot be stored"):
        replace(sample_spec(), targets=(target,)).normalised()
