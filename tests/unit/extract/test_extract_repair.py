"""Repair with a teacher: exactly the damaged shards are done again, and the digest is the same."""

from __future__ import annotations

import shutil

import pytest

from kdcache.corpus.manifest import read_manifest, write_manifest
from kdcache.errors import ConfigError, SpecMismatchError
from kdcache.extract import ExtractConfig, run_repair
from kdcache.store import find_damage, open_cache, verify
from kdcache.store.places import open_storage
from kdcache.testing.store_contract import flip_bit
from tests.unit.extract.extract_fakes import ADAPTER, extract_here, save_corpus, save_fake_teacher


def config(place, **changes):
    settings = {
        "teacher": {"path": place / "teacher", "adapter": ADAPTER},
        "corpus": place / "wav" / "manifest.jsonl",
        "cache": {"path": str(place / "cache")},
        "targets": ["lattice"],
        "unit_utterances": 2,
    }
    return ExtractConfig.model_validate({**settings, **changes})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Teacher, corpus and a cache of three shards."""
    folder = tmp_path_factory.mktemp("made")
    save_fake_teacher(folder / "teacher")
    save_corpus(folder / "wav", [4000, 8000, 12000, 4400, 4800])
    extract_here(config(folder))
    (folder / "cache").rename(folder / "sound")
    return folder


@pytest.fixture
def place(made, monkeypatch):
    """The same with a fresh copy of the cache; extraction runs in this process, without Ray."""
    shutil.rmtree(made / "cache", ignore_errors=True)
    shutil.copytree(made / "sound", made / "cache")
    monkeypatch.setattr(
        "kdcache.extract.repair.run_extract", lambda c, *_: extract_here(c) and None
    )
    return made


@pytest.fixture
def files(place):
    return open_storage(place / "cache")


def repair(place, **changes):
    cache = str(place / "cache")
    return run_repair(cache, find_damage(cache), config(place, **changes))


@pytest.mark.parametrize("folder", ["data", "catalogue", "commits"])
def test_a_flipped_bit_in_any_file_of_a_unit(place, files, folder):
    cache = open_cache(place / "cache")
    digest, before = cache.content_digest(), {e.key: files.read(e.key) for e in files.entries()}
    damaged = files.entries(folder)[1].key
    flip_bit(files, damaged, 8 * 300)
    written = {e.key: e.modified for e in files.entries("commits")}
    report = repair(place)
    assert {item.file for item in report.findings.damage} == {damaged}
    assert report.whole
    assert verify(place / "cache") == []
    assert open_cache(place / "cache").content_digest() == digest
    after = {e.key: e.modified for e in files.entries("commits")}
    assert [key for key in written if after[key] != written[key]] == [
        f"commits/{report.findings.units[0].unit}.json"
    ]
    same = {
        e.key: files.read(e.key) for folder in ("data", "catalogue") for e in files.entries(folder)
    }
    assert same == {key: value for key, value in before.items() if key in same}


def test_a_lost_shard_and_all_that_units_share(place, files):
    before = {e.key: files.read(e.key) for e in files.entries()}
    digest = open_cache(place / "cache").content_digest()
    files.delete(files.entries("data")[0].key)
    flip_bit(files, files.entries("tokenizer")[0].key, 5)
    flip_bit(files, "kdcache.json", 999)
    report = repair(place)
    assert report.whole
    assert report.restored[0] == "kdcache.json"
    assert verify(place / "cache") == []
    assert open_cache(place / "cache").content_digest() == digest
    assert files.read("kdcache.json") == before["kdcache.json"]


def test_without_a_configuration_it_is_set_aside_only(place, files):
    flip_bit(files, files.entries("data")[0].key, 8 * 300)
    cache = str(place / "cache")
    report = run_repair(cache, find_damage(cache))
    assert not report.whole
    assert len(report.set_aside) == len(report.awaited) == 1
    assert verify(cache) == []
    assert len(open_cache(cache)) < 5
    again = run_repair(cache, find_damage(cache))
    assert again.awaited == report.awaited
    assert repair(place).whole
    assert len(open_cache(cache)) == 5


def test_killed_before_the_extraction_the_same_command_goes_on(place, files, monkeypatch):
    digest = open_cache(place / "cache").content_digest()
    flip_bit(files, files.entries("data")[0].key, 8 * 300)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("kdcache.extract.repair.run_extract", killed)
        with pytest.raises(KeyboardInterrupt):
            repair(place)
    report = repair(place)
    assert report.findings.damage == []
    assert report.whole
    assert open_cache(place / "cache").content_digest() == digest


def test_a_sound_cache_needs_no_teacher(place, monkeypatch):
    monkeypatch.setattr("kdcache.extract.repair.check_settings", pytest.fail)
    report = repair(place)
    assert report.whole
    assert report.lines() == [f"{place / 'cache'}: no damage"]


def test_nothing_changes_where_the_settings_do_not_fit(place, files):
    flip_bit(files, files.entries("data")[0].key, 8 * 300)
    before = {e.key: files.read(e.key) for e in files.entries()}
    with pytest.raises(ConfigError, match="is about the cache"):
        repair(place, cache={"path": str(place / "other")})
    with pytest.raises(SpecMismatchError, match="targets"):
        repair(place, targets=["encoder_logits"])
    with pytest.raises(SpecMismatchError, match="layout"):
        repair(place, cache={"path": str(place / "cache"), "layout": "webdataset"})
    corpus = read_manifest(place / "wav" / "manifest.jsonl")
    few = place / "wav" / "few.jsonl"
    damaged = {i for unit in find_damage(place / "cache").units for i in unit.utterances}
    write_manifest(few, [u for u in corpus if u.id not in damaged])
    with pytest.raises(SpecMismatchError, match="Nothing was changed"):
        repair(place, corpus=few)
    assert {e.key: files.read(e.key) for e in files.entries()} == before


def test_the_report_names_files_and_utterances(place, files):
    flip_bit(files, files.entries("data")[0].key, 8 * 300)
    report = repair(place)
    text = "\n".join(report.lines())
    (unit,) = report.findings.units
    assert f"unit {unit.unit}: set aside with its {len(unit.utterances)} utterances ('u0" in text
    assert all(item.file in text for item in report.findings.damage)
    data = report.to_dict()
    assert data["whole"]
    assert data["units"] == [{"unit": unit.unit, "utterances": list(unit.utterances)}]
    assert data["set_aside"][0].startswith("quarantine/")


def test_the_same_in_an_object_store(place):
    """Extraction, damage and repair at a URL give what they give in a directory."""
    pytest.importorskip("obstore", reason="object stores need obstore")
    url = f"memory://extract/{place.name}"
    there = config(place, cache={"path": url})
    digest = open_cache(place / "cache").content_digest()
    assert extract_here(there).content_digest() == digest
    files = open_storage(url)
    flip_bit(files, files.entries("data")[0].key, 8 * 300)
    report = run_repair(url, find_damage(url), there)
    assert (report.whole, len(report.set_aside)) == (True, 1)
    assert verify(url) == []
    assert open_cache(url).content_digest() == digest
