"""Damage is set aside unit by unit, killed or not, and nothing else is touched."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from kdcache.errors import SpecMismatchError, StorageError
from kdcache.store import (
    CacheWriter,
    Storage,
    awaited_units,
    collect_garbage,
    create_or_open,
    find_damage,
    find_garbage,
    open_cache,
    open_for_write,
    restore_header,
    set_aside,
    verify,
)
from kdcache.store.places import open_storage
from kdcache.testing.samples import (
    TOKENIZER_FILES,
    sample_failed,
    sample_packed,
    sample_spec,
)
from kdcache.testing.store_contract import flip_bit

if TYPE_CHECKING:
    from pathlib import Path

UNITS = {"u0": ["a", "b"], "u-1": ["c", "d"], "u2.x": ["e"]}


def commit(writer: CacheWriter, unit: str) -> None:
    packed = [sample_packed(writer.spec, name) for name in UNITS[unit]]
    writer.commit(unit, packed, [sample_failed(f"bad-{unit}")], "again")


@pytest.fixture(scope="module", params=["zarr", "webdataset"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "cache"
    writer = create_or_open(path, sample_spec(), request.param, TOKENIZER_FILES)
    for unit in UNITS:
        commit(writer, unit)
    return path


@pytest.fixture
def cache(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def files(cache: Path) -> Storage:
    return open_storage(cache)


def file_of(files: Storage, folder: str, unit: str) -> str:
    (key,) = (e.key for e in files.entries(folder) if e.key.startswith(f"{folder}/{unit}"))
    return key


@pytest.mark.parametrize("folder", ["data", "catalogue", "commits"])
@pytest.mark.parametrize("unit", UNITS)
def test_a_damaged_unit_goes_and_comes_back(
    cache: Path, files: Storage, folder: str, unit: str
) -> None:
    digest = open_cache(cache).content_digest()
    flip_bit(files, file_of(files, folder, unit), 8 * 300)
    findings = find_damage(cache)
    assert [found.unit for found in findings.units] == [unit]
    assert findings.common == ()
    assert findings.damage == verify(cache)
    held = None if folder != "data" else tuple(sorted([*UNITS[unit], f"bad-{unit}"]))
    assert findings.units[0].utterances == held
    (key,) = set_aside(cache, findings.units)
    assert verify(cache) == []
    assert set(open_cache(cache).units) == UNITS.keys() - {unit}
    assert awaited_units(cache) == [unit]
    told = json.loads(files.read(key))
    assert (told["unit"], told["utterances"]) == (unit, None if held is None else list(held))
    assert {item["file"] for item in told["damage"]} == {d.file for d in findings.damage}
    commit(open_for_write(cache), unit)
    assert verify(cache) == []
    assert awaited_units(cache) == []
    assert open_cache(cache).content_digest() == digest


def test_a_missing_shard_is_damage(cache: Path, files: Storage) -> None:
    files.delete(file_of(files, "data", "u0"))
    findings = find_damage(cache)
    assert [(unit.unit, unit.utterances) for unit in findings.units] == [
        ("u0", ("a", "b", "bad-u0"))
    ]
    set_aside(cache, findings.units)
    assert verify(cache) == []
    assert open_cache(cache).ids == ["c", "d", "e"]


def test_a_sound_cache_is_left_alone(cache: Path, files: Storage) -> None:
    before = {entry.key: entry.modified for entry in files.entries()}
    findings = find_damage(cache)
    assert findings.damage == []
    assert set_aside(cache, findings.units) == []
    assert awaited_units(cache) == []
    assert {entry.key: entry.modified for entry in files.entries()} == before


def test_utterances_may_come_back_in_another_unit(cache: Path, files: Storage) -> None:
    flip_bit(files, file_of(files, "data", "u-1"), 8 * 300)
    set_aside(cache, find_damage(cache).units)
    writer = open_for_write(cache)
    writer.commit("other", [sample_packed(writer.spec, "c")], [], "x")
    assert awaited_units(cache) == ["u-1"]
    writer.commit("more", [sample_packed(writer.spec, "d")], [sample_failed("bad-u-1")], "x")
    assert awaited_units(cache) == []


def test_killed_before_the_record_goes_it_is_found_again(
    cache: Path, files: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip_bit(files, file_of(files, "data", "u0"), 8 * 300)
    findings = find_damage(cache)

    def killed(*_: object) -> None:
        raise StorageError("the power is gone")

    monkeypatch.setattr("kdcache.store.local.LocalStorage.delete", killed)
    with pytest.raises(StorageError):
        set_aside(cache, findings.units)
    monkeypatch.undo()
    assert find_damage(cache) == findings
    set_aside(cache, findings.units)
    assert verify(cache) == []
    assert len(files.entries("quarantine")) == 1


def test_damage_that_passes_costs_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A storage that fails once and then reads well has lost nothing."""
    read, failures = type(open_storage(cache)).read, ["data/u0"]

    def flaky(storage: object, key: str) -> bytes:
        if failures and key.startswith(failures[0]):
            failures.clear()
            raise StorageError("try again")
        return read(storage, key)  # type: ignore[arg-type]

    monkeypatch.setattr("kdcache.store.local.LocalStorage.read", flaky)
    assert find_damage(cache).damage == []
    assert failures == []


def test_garbage_spares_the_quarantine_until_asked(cache: Path, files: Storage) -> None:
    flip_bit(files, file_of(files, "data", "u0"), 8 * 300)
    set_aside(cache, find_damage(cache).units)
    assert find_garbage(cache) == []
    found = {entry.key.partition("/")[0] for entry in find_garbage(cache, quarantine=True)}
    assert found == {"data", "catalogue", "quarantine"}
    assert len(collect_garbage(cache, 0, quarantine=True)) == 3
    assert find_garbage(cache, quarantine=True) == []
    assert verify(cache) == []


def test_what_came_back_is_no_garbage(cache: Path, files: Storage) -> None:
    """The sound shard has the name of the damaged one, which it has replaced."""
    flip_bit(files, file_of(files, "data", "u0"), 8 * 300)
    set_aside(cache, find_damage(cache).units)
    commit(open_for_write(cache), "u0")
    assert [e.key.partition("/")[0] for e in collect_garbage(cache, 0, quarantine=True)] == [
        "quarantine"
    ]
    assert verify(cache) == []


# Files that all units share


@pytest.mark.parametrize("lost", [False, True])
def test_the_header_is_written_again(cache: Path, files: Storage, lost: bool) -> None:
    before, layout = files.read("kdcache.json"), open_cache(cache).layout
    if lost:
        files.delete("kdcache.json")
    else:
        flip_bit(files, "kdcache.json", 999)
    assert {item.file for item in find_damage(cache).common} == {"kdcache.json"}
    assert restore_header(cache, sample_spec(), layout, TOKENIZER_FILES) == ["kdcache.json"]
    assert files.read("kdcache.json") == before
    assert verify(cache) == []


def test_a_tokenizer_file_is_written_again(cache: Path, files: Storage) -> None:
    flip_bit(files, "tokenizer/vocab.txt", 3)
    layout = open_cache(cache).layout
    assert restore_header(cache, sample_spec(), layout, TOKENIZER_FILES) == ["tokenizer/vocab.txt"]
    assert verify(cache) == []
    assert restore_header(cache, sample_spec(), layout, TOKENIZER_FILES) == []


def test_another_tokenizer_is_not_put_in_its_place(cache: Path, files: Storage) -> None:
    flip_bit(files, "tokenizer/vocab.txt", 3)
    other = {**TOKENIZER_FILES, "vocab.txt": b"another"}
    assert restore_header(cache, sample_spec(), open_cache(cache).layout, other) == []
    assert [item.file for item in verify(cache)] == ["tokenizer/vocab.txt"]


def test_a_header_of_other_settings_is_refused(cache: Path, files: Storage) -> None:
    layout = open_cache(cache).layout
    files.delete("kdcache.json")
    with pytest.raises(SpecMismatchError, match="other settings"):
        restore_header(cache, sample_spec(floor=3), layout, TOKENIZER_FILES)
    wrong = {"zarr": "webdataset"}.get(layout, "zarr")
    with pytest.raises(SpecMismatchError, match="no shard of the layout"):
        restore_header(cache, sample_spec(), wrong, TOKENIZER_FILES)
    assert not files.exists("kdcache.json")
