"""A cache in figures: sizes, hours, failures, and fidelity weighted as it says."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from kdcache.codec import make_codec
from kdcache.inspect import totals
from kdcache.inspect.summary import summarise
from kdcache.store import PackedUtterance, create_or_open, find_damage, open_cache, set_aside
from kdcache.testing.records import random_lattice
from kdcache.testing.samples import TOKENIZER_FILES, sample_failed, sample_packed, sample_spec
from kdcache.types import TargetSpec

if TYPE_CHECKING:
    from pathlib import Path

    from kdcache.store import Cache


def utterance(name: str, frames: int, measures: dict[str, float]) -> PackedUtterance:
    """A lattice of ``frames`` × 2 nodes, K = 0."""
    item = sample_packed(sample_spec(audio="flac"), name)
    columns = {k: v for k, v in item.columns.items() if k != "lattice.ids"}
    columns["lattice.logp"] = np.zeros((frames, 2, 3), np.uint8)
    columns["hidden.values"] = np.zeros((frames, 4), np.int8)
    return replace(item, columns=columns, fidelity=measures, duration=1800.0, frames=frames)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    spec = sample_spec(audio="flac")
    writer = create_or_open(tmp_path / "cache", spec, "webdataset", TOKENIZER_FILES)
    low = {"lattice.kl_mean": 0.1, "lattice.kl_max": 0.5, "hidden.error_mean": 1.0}
    high = {"lattice.kl_mean": 0.5, "lattice.kl_max": 0.25, "hidden.error_mean": 4.0}
    writer.commit("u0", [utterance("a", 30, low)], [sample_failed("x"), sample_failed("y")], "0")
    writer.commit("u1", [utterance("b", 10, high)], [], "0")
    missing = replace(sample_failed("z"), code="transcript")
    writer.commit("u2", [], [missing], "0")
    return open_cache(tmp_path / "cache")


def test_counts_and_hours(cache: Cache) -> None:
    summary = summarise(cache)
    assert (summary.units, summary.utterances, summary.hours) == (3, 2, 1.0)
    assert summary.failed == {"audio": 2, "transcript": 1}
    assert summary.teacher == "sample-teacher"
    assert summary.teacher_kind == "transducer"
    assert (summary.layout, summary.format_version) == ("webdataset", 1)


def test_bytes_are_those_on_disk(cache: Cache) -> None:
    summary = summarise(cache)
    on_disk = sum(file.stat().st_size for file in cache.path.rglob("*") if file.is_file())
    assert summary.bytes == on_disk == summary.bytes_per_hour
    sizes = {target.name: target.bytes for target in summary.targets}
    assert sizes["lattice"] == 40 * 2 * 3
    assert sizes["hidden"] == 40 * 4 + 2 * 4 * 4
    assert summary.audio_bytes == 2 * 54


def test_fidelity_is_weighted_by_nodes_and_frames(cache: Cache) -> None:
    found = {target.name: target.fidelity for target in summarise(cache).targets}
    assert found["lattice"]["kl_mean"] == pytest.approx((0.1 * 30 + 0.5 * 10) / 40)
    assert found["lattice"]["kl_max"] == pytest.approx(0.5)
    assert found["hidden"]["error_mean"] == pytest.approx((1.0 * 30 + 4.0 * 10) / 40)
    assert found["encoder_logits"] == {}


def test_an_unmeasured_utterance_does_not_count(cache: Cache) -> None:
    writer = create_or_open(cache.path, cache.spec, cache.layout, TOKENIZER_FILES)
    writer.commit("u3", [utterance("c", 1000, {})], [], "0")
    cache.refresh()
    found = {target.name: target.fidelity for target in summarise(cache).targets}
    assert found["lattice"]["kl_mean"] == pytest.approx(0.2)


@pytest.mark.parametrize(("settings", "weights"), [({}, (60, 60)), ({"width": 2}, (30, 10))])
def test_packed_lattices_are_weighted_by_what_the_catalogue_tells(
    tmp_path: Path, settings: dict[str, int], weights: tuple[int, int]
) -> None:
    target = TargetSpec("lattice", "lattice", "lattice", settings, {"name": "root"})
    spec = replace(sample_spec(), targets=(target,))
    writer = create_or_open(tmp_path / "cache", spec, "zarr", TOKENIZER_FILES)
    packed = []
    for name, frames, labels, kl in (("a", 30, 1, 0.1), ("b", 10, 5, 0.5)):
        lattice = random_lattice(np.random.default_rng(0), frames, labels, 0)
        columns = make_codec("lattice", target.codec).encode(lattice)
        named = {f"lattice.{key}": value for key, value in columns.items()}
        item = utterance(name, frames, {"lattice.kl_mean": kl})
        packed.append(replace(item, columns=named, tokens=(1,) * labels))
    writer.commit("u0", packed, [], "0")
    (found,) = summarise(open_cache(tmp_path / "cache")).targets
    expected = (0.1 * weights[0] + 0.5 * weights[1]) / sum(weights)
    assert found.fidelity["kl_mean"] == pytest.approx(expected)


def test_the_digest_is_computed_when_asked_for(cache: Cache) -> None:
    assert summarise(cache).content_digest is None
    assert summarise(cache, digest=True).content_digest == cache.content_digest()


def test_a_summary_is_json(cache: Cache) -> None:
    data = json.loads(json.dumps(summarise(cache, digest=True).to_dict()))
    assert data["targets"][0]["codec"] == {"name": "log8", "floor": 16.0}
    assert data["targets"][0]["settings"] == {"top_k": 2}


def test_an_empty_cache_has_no_rate(tmp_path: Path) -> None:
    create_or_open(tmp_path / "cache", sample_spec(), "zarr", TOKENIZER_FILES)
    summary = summarise(open_cache(tmp_path / "cache"))
    assert summary.bytes_per_hour is None
    assert summary.utterances == 0
    assert [target.fidelity for target in summary.targets] == [{}, {}, {}]
    json.dumps(summary.to_dict())


def test_the_worst_utterances_are_named(sampled: Cache) -> None:
    lattice, encoder, hidden = summarise(sampled).targets
    assert lattice.worst is not None
    assert (lattice.worst.measure, lattice.worst.ids) == ("kl_mean", ("u07", "u02", "u09"))
    assert lattice.worst.values == pytest.approx((0.011, 0.010, 0.009))
    assert lattice.worst.p99 == pytest.approx(0.011, rel=0.011)
    assert encoder.worst is not None
    assert (encoder.worst.measure, encoder.worst.ids) == ("kl_full_mean", ("u00", "u01", "u02"))
    assert hidden.worst is None


@pytest.mark.parametrize("block", [1, 5, 12])
def test_blocks_change_nothing(sampled: Cache, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = summarise(sampled)
    monkeypatch.setattr(totals, "BLOCK", block)
    parts = summarise(sampled)
    for one, other in zip(whole.targets, parts.targets, strict=True):
        assert one.fidelity == pytest.approx(other.fidelity)
        assert replace(one, fidelity={}) == replace(other, fidelity={})
    assert replace(whole, targets=()) == replace(parts, targets=())


def test_units_with_failures_are_counted(cache: Cache) -> None:
    assert summarise(cache).units_incomplete == 2
    assert summarise(cache).units_set_aside == 0


def test_a_unit_that_repair_took_out_is_told(cache: Cache) -> None:
    set_aside(cache.path, find_damage(cache.path).units)
    assert summarise(open_cache(cache.path)).units_set_aside == 0
    shard = next(cache.path.glob("data/u0-*"))
    shard.write_bytes(b"")
    set_aside(cache.path, find_damage(cache.path).units)
    found = summarise(open_cache(cache.path))
    assert (found.units, found.units_set_aside) == (2, 1)


def test_a_band_says_what_it_covers(sampled: Cache) -> None:
    lattice = summarise(sampled).targets[0]
    assert lattice.band_covers is None
    band = replace(lattice, fidelity={"band_outside": 0.25})
    assert band.band_covers == 0.75
