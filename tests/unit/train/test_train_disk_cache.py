"""Training from a cache in an object store: through the local disk, and told how it is mixed."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from kdcache.errors import ConfigError
from kdcache.store import create_or_open
from kdcache.testing.samples import TOKENIZER_FILES, sample_packed, sample_spec
from kdcache.train.data import load_data
from kdcache.train.launch import _comparable
from kdcache.train.loop import Trainer
from kdcache.train.settings import TrainSettings
from kdcache.train.world import World

if TYPE_CHECKING:
    from pathlib import Path

    from kdcache.store import CacheSpec, PackedUtterance
    from kdcache.types import Utterance


@pytest.fixture
def data(tones: Path, tmp_path: Path) -> dict[str, Any]:
    """A cache of the tones' utterances, in two shards, with their tokenizer."""
    pytest.importorskip("obstore", reason="object stores need obstore")
    from kdcache.corpus import load_tokenizer, read_manifest

    url = f"memory://train/{uuid.uuid4().hex}"
    fingerprint = load_tokenizer(tones / "tokenizer").fingerprint
    spec = replace(sample_spec(), tokenizer=fingerprint)
    writer = create_or_open(url, spec, "webdataset", TOKENIZER_FILES)
    utterances = read_manifest(tones / "train.jsonl")
    for unit in range(2):
        packed = [_packed(writer.spec, utterance) for utterance in utterances[unit::2]]
        writer.commit(f"u{unit}", packed, [], "x")
    return {
        "cache": url,
        "corpus": tones / "train.jsonl",
        "tokenizer": tones / "tokenizer",
        "disk_cache": tmp_path / "disk",
    }


def _packed(spec: CacheSpec, utterance: Utterance) -> PackedUtterance:
    sample = sample_packed(spec, utterance.id)
    assert utterance.duration is not None
    return replace(sample, utterance=utterance, duration=utterance.duration)


def settings_of(out: Path, **data: Any) -> TrainSettings:
    values = {"out": out, "data": data, "batch_seconds": 30.0, "loss": {"lattice_kl": 0.1}}
    return TrainSettings.model_validate(values)


def test_settings_reach_the_stream(data: dict[str, Any], tmp_path: Path) -> None:
    stream, _ = load_data(settings_of(tmp_path, **data), World())
    assert stream.window_shards == 64
    ids = sorted(name for batch in stream for name in batch.ids)
    assert len(ids) == len(set(ids)) == len(stream.source.durations)
    assert stream.counters.fetched == 2
    assert len(list((tmp_path / "disk").glob("*.shard"))) == 2
    narrow, _ = load_data(settings_of(tmp_path, **data, window_shards=1), World())
    assert narrow.window_shards == 1
    small, _ = load_data(settings_of(tmp_path, **data, disk_cache_bytes=1), World())
    with pytest.raises(ConfigError, match="may hold 1 bytes"):
        list(small)


def test_a_run_tells_how_it_is_mixed(data: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "run"
    Trainer(settings_of(out, **data, window_shards=2), World())._tell_shuffle()
    told = json.loads((out / "shuffle.json").read_text())
    assert told["window_shards"] == 2
    assert 0 < told["one_shard"] <= 1 <= told["shards"] <= 2
    whole = tmp_path / "whole"
    Trainer(settings_of(whole, **{**data, "disk_cache": None}), World())._tell_shuffle()
    assert not (whole / "shuffle.json").exists()


def test_where_shards_are_kept_may_change_between_starts(tmp_path: Path) -> None:
    data = {"cache": tmp_path / "cache", "window_shards": 8}
    here = _comparable(settings_of(tmp_path, **data, disk_cache=tmp_path / "a"))
    there = _comparable(settings_of(tmp_path, **data, disk_cache_bytes=7, ahead_shards=2))
    assert here == there
    assert here != _comparable(settings_of(tmp_path, **{**data, "window_shards": 9}))
