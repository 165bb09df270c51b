"""Mistakes are found before Ray is started or an actor is paid for."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from kdcache.corpus.manifest import read_manifest, write_manifest
from kdcache.corpus.tokenizer import train_sentencepiece
from kdcache.errors import (
    ConfigError,
    ManifestError,
    NotACacheError,
    SpecMismatchError,
    TeacherError,
    TokenizerError,
    UnsupportedTargetError,
)
from kdcache.extract import ExtractConfig, prepare, run_extract
from kdcache.store import open_cache
from tests.unit.extract.extract_fakes import ADAPTER, extract_here, save_corpus, save_fake_teacher


@pytest.fixture
def place(tmp_path):
    save_fake_teacher(tmp_path / "teacher")
    save_corpus(tmp_path / "wav", [4000, 8000, 12000])
    return tmp_path


def config(place, **changes):
    settings = {
        "teacher": {"path": place / "teacher", "adapter": ADAPTER},
        "corpus": place / "wav" / "manifest.jsonl",
        "cache": {"path": str(place / "cache")},
        "targets": ["lattice"],
        "unit_utterances": 2,
    }
    return ExtractConfig.model_validate({**settings, **changes})


def teacher_at(path):
    return {"path": path, "adapter": ADAPTER}


def test_a_fresh_start_plans_everything(place):
    ready = prepare(config(place))
    assert [len(unit) for unit in ready.plan.units] == [2, 1]
    assert ready.plan.present == 0
    assert len(open_cache(place / "cache")) == 0
    assert ready.spec.audio == "none"
    assert (ready.spec.targets[0].name, ready.spec.targets[0].kind) == ("lattice", "lattice")


def test_several_manifests_are_one_corpus(place):
    _, other = save_corpus(place / "more", [4000])
    write_manifest(place / "more" / "manifest.jsonl", [replace(other[0], id="v00")])
    both = (place / "wav" / "manifest.jsonl", place / "more" / "manifest.jsonl")
    assert [u.id for u in prepare(config(place, corpus=both)).corpus.utterances] == [
        "u00",
        "u01",
        "u02",
        "v00",
    ]


def test_an_id_in_two_manifests_is_named(place):
    save_corpus(place / "more", [4000])
    both = (place / "wav" / "manifest.jsonl", place / "more" / "manifest.jsonl")
    with pytest.raises(ManifestError, match="'u00'"):
        prepare(config(place, corpus=both))


@pytest.mark.parametrize(
    ("changes", "error", "told"),
    [
        ({"targets": ["latice"]}, ConfigError, "Did you mean 'lattice'"),
        ({"targets": [{"kind": "lattice", "codec": {"name": "log9"}}]}, ConfigError, "log9"),
        ({"targets": ["decoder_logits"]}, UnsupportedTargetError, "decoder_logits"),
        ({"targets": ["hidden", "hidden"]}, ConfigError, "two targets"),
    ],
)
def test_targets_that_cannot_be(place, changes, error, told):
    with pytest.raises(error, match=told):
        prepare(config(place, **changes))
    assert not (place / "cache").exists(), "nothing was written"


def test_a_teacher_that_is_not_there(place):
    with pytest.raises(TeacherError, match="nowhere"):
        prepare(config(place, teacher=teacher_at(place / "nowhere")))
    with pytest.raises(TeacherError, match="does not exist"):
        prepare(config(place, teacher={"path": place / "nowhere"}))


def test_a_manifest_that_is_not_there(place):
    with pytest.raises(ManifestError, match=r"none\.jsonl"):
        prepare(config(place, corpus=place / "none.jsonl"))


@pytest.mark.parametrize(
    "changes",
    [
        {"targets": ["lattice", "hidden"]},
        {"targets": [{"kind": "lattice", "top_k": 2}]},
        {"cache": {"layout": "webdataset"}},
        {"cache": {"audio": "flac"}},
    ],
)
def test_a_cache_of_other_settings_is_not_touched(place, changes):
    prepare(config(place))
    if "cache" in changes:
        changes = {"cache": {"path": str(place / "cache"), **changes["cache"]}}
    with pytest.raises(SpecMismatchError, match="other settings"):
        prepare(config(place, **changes))


def test_a_cache_of_another_tokenizer_is_not_touched(place):
    prepare(config(place))
    other = save_fake_teacher(place / "other")
    train_sentencepiece(["one two three four five six"], 18, "char").save(other)
    with pytest.raises((SpecMismatchError, TokenizerError)):
        prepare(config(place, teacher=teacher_at(other)))


def test_a_folder_with_other_things_is_no_cache(place):
    (place / "cache").mkdir()
    (place / "cache" / "thesis.tex").touch()
    with pytest.raises(NotACacheError, match=r"thesis\.tex"):
        prepare(config(place))


def test_a_transcript_that_changed_is_noticed(place):
    extract_here(config(place))
    ready = prepare(config(place))
    assert ready.plan.present == 3
    first, *others = ready.corpus.utterances
    changed = [replace(first, text="five"), *others]
    write_manifest(place / "wav" / "manifest.jsonl", changed)
    with pytest.raises(SpecMismatchError, match="'u00'"):
        prepare(config(place))


def test_ray_is_not_started_where_nothing_is_missing(place, monkeypatch):
    cache = extract_here(config(place))
    monkeypatch.setitem(sys.modules, "ray", None)  # importing it would fail
    report = run_extract(config(place))
    assert report.complete
    assert (report.done, report.skipped, report.utterances) == (0, 3, 3)
    assert report.hours == pytest.approx(24000 / 8000 / 3600)
    assert report.content_digest == cache.content_digest()


def test_what_is_there_need_not_be_in_whole_units(place):
    """Units of another size are cut anew around what is there; nothing is done twice."""
    extract_here(config(place, unit_utterances=1, corpus=first_of(place, 2)))
    again = prepare(config(place, unit_utterances=3))
    assert [unit.ids for unit in again.plan.units] == [("u02",)]


def first_of(place, count):
    corpus = read_manifest(place / "wav" / "manifest.jsonl")[:count]
    write_manifest(place / "wav" / "first.jsonl", corpus)
    return place / "wav" / "first.jsonl"


def test_memory_is_refused_before_anything_starts(place):
    with pytest.raises(ConfigError, match="actors do not share"):
        run_extract(config(place, cache={"path": "memory://name/cache"}))


def test_an_unknown_service_is_refused(place):
    with pytest.raises(ConfigError, match="Did you mean 's3'"):
        prepare(config(place, cache={"path": "s3a://bucket/cache"}))
