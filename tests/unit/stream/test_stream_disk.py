"""Streams of caches in object stores through a disk cache: the same utterances, fetched ahead."""

from __future__ import annotations

import json
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from kdcache.errors import ConfigError
from kdcache.store import compact, create_or_open, open_cache
from kdcache.store.disk_cache import DiskCache
from kdcache.store.places import open_storage
from kdcache.stream import Stream, stream_cache
from kdcache.testing.samples import TOKENIZER_FILES, sample_packed, sample_spec
from kdcache.testing.store_contract import flip_bit

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

UNITS, EACH = 6, 8

pytest.importorskip("obstore", reason="object stores need obstore")


def fill(place: str | Path) -> str:
    writer = create_or_open(place, sample_spec(), "webdataset", TOKENIZER_FILES)
    for unit in range(UNITS):
        packed = [sample_packed(writer.spec, f"{i}-{unit}") for i in range(EACH)]
        writer.commit(f"u{unit}", packed, [], "x")
    return str(place)


@pytest.fixture(scope="module")
def url() -> str:
    return fill(f"memory://disk/{uuid.uuid4().hex}")


@pytest.fixture(scope="module")
def shard_bytes(url: str) -> list[int]:
    return [record.size for record in open_cache(url).shards_of_rows().records]


def stream(place: str, folder: Path | None, **settings: Any) -> Stream:
    shared = {"batch_seconds": 30.0, "seed": 3, "micro_batches_per_step": 4}
    return stream_cache(place, disk_cache=folder, **{**shared, **settings})


def ids_of(stream: Stream) -> list[list[str]]:
    return [[name for batch in step.batches for name in batch.ids] for step in stream.steps()]


def test_every_utterance_once_and_each_shard_fetched_once(url: str, tmp_path: Path) -> None:
    streaming = stream(url, tmp_path, window_shards=2)
    whole = open_cache(url).ids
    for epoch in range(3):
        assert sorted(name for step in ids_of(streaming) for name in step) == whole
        counters = streaming.counters
        assert counters.fetched == UNITS, "the second epoch finds them on disk"
        assert counters.utterances == len(whole) * (epoch + 1)
        # A micro-batch reads each of its shards once.
        assert counters.batches <= counters.hits + counters.misses <= counters.utterances
    assert counters.refetched == 0
    assert not [t for t in threading.enumerate() if t.name == "kdcache-fetch"]


def test_the_batches_are_those_of_the_same_cache_in_a_directory(url: str, tmp_path: Path) -> None:
    here = fill(tmp_path / "cache")
    there = list(stream(url, tmp_path / "disk", window_shards=2))
    local = list(stream(here, tmp_path / "unused", window_shards=2))
    assert [batch.ids for batch in there] == [batch.ids for batch in local]
    for one, other in zip(there, local, strict=True):
        assert one.lattice.logp_BTSC.equal(other.lattice.logp_BTSC)
    assert not (tmp_path / "unused").exists(), "a local cache is left where it is"


def test_the_order_does_not_depend_on_how_the_catalogue_was_read(tmp_path: Path) -> None:
    url = fill(f"memory://disk/{uuid.uuid4().hex}")
    before = stream(url, tmp_path, window_shards=2)
    state, order = before.state_dict(), ids_of(before)
    compact(url)
    after = stream(url, tmp_path, window_shards=2)
    assert after.state_dict() == state
    assert ids_of(after) == order


def test_a_disk_cache_brings_a_window_unless_one_is_given(url: str, tmp_path: Path) -> None:
    assert stream(url, tmp_path).state_dict()["window_shards"] == 64
    assert stream(url, tmp_path, window_shards=3).state_dict()["window_shards"] == 3
    assert "window_shards" not in stream(url, None).state_dict()
    assert ids_of(stream(url, None)) != ids_of(stream(url, None, window_shards=1))


def test_resumes_in_the_middle_with_other_workers_and_another_disk(
    url: str, tmp_path: Path
) -> None:
    whole = ids_of(stream(url, tmp_path / "a", window_shards=2))
    first = stream(url, tmp_path / "a", window_shards=2)
    steps = first.steps()
    for _ in range(3):
        next(steps)
    text = json.dumps(first.state_dict())
    assert len(text) < 400
    steps.close()  # type: ignore[attr-defined]
    found = []
    for rank in range(4):
        worker = stream(url, tmp_path / "b", window_shards=2, rank=rank, world_size=4)
        worker.load_state_dict(json.loads(text))
        found.append(ids_of(worker))
    resumed = [[name for share in step for name in share] for step in zip(*found, strict=True)]
    assert resumed == whole[3:]


def test_another_window_and_other_shards_refuse_a_saved_position(url: str, tmp_path: Path) -> None:
    state = stream(url, tmp_path, window_shards=2).state_dict()
    with pytest.raises(ConfigError, match="window_shards 2 and this stream 3"):
        stream(url, tmp_path, window_shards=3).load_state_dict(state)
    with pytest.raises(ConfigError, match="window_shards 2 and this stream None"):
        stream(url, None).load_state_dict(state)
    with pytest.raises(ConfigError, match="has shards '0' and this stream"):
        stream(url, None, window_shards=2).load_state_dict({**state, "shards": "0"})


def test_the_disk_stays_within_its_limit(url: str, tmp_path: Path, shard_bytes: list[int]) -> None:
    limit = 4 * max(shard_bytes)
    narrow = {"window_shards": 1, "ahead_shards": 1, "batch_seconds": 1.0}
    streaming = stream(url, tmp_path, disk_cache_bytes=limit, **narrow)
    for _ in range(2):
        for _ in streaming.steps():
            assert DiskCache(tmp_path, limit).nbytes <= limit
    assert streaming.counters.fetched > UNITS, "what was deleted is fetched again"


def test_a_disk_that_cannot_hold_the_window_is_refused_at_once(
    url: str, tmp_path: Path, shard_bytes: list[int]
) -> None:
    small = stream(url, tmp_path, window_shards=UNITS, disk_cache_bytes=2 * max(shard_bytes))
    with pytest.raises(ConfigError, match=rf"needs shards of {sum(shard_bytes):,} bytes at once"):
        list(small)
    assert small.counters.fetched == 0


def test_shards_are_fetched_before_they_are_needed(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A storage of slow answers costs its time once, not once a shard."""
    slow_down(monkeypatch, lambda: time.sleep(0.1))
    streaming = stream(url, tmp_path, window_shards=1, ahead_shards=UNITS, prefetch=1)
    waited = []
    for _ in streaming.steps():
        waited.append(streaming.waited)
        time.sleep(0.05)
    assert streaming.counters.fetched == UNITS
    assert streaming.waited < 0.6 * 0.1 * UNITS


def test_damage_costs_the_damaged_utterance_alone(tmp_path: Path) -> None:
    url = fill(f"memory://disk/{uuid.uuid4().hex}")
    row = open_cache(url).catalogue.slice(5, 1).to_pylist()[0]
    flip_bit(open_storage(url), row["shard"], 8 * row["at.hidden.values"])
    streaming = stream(url, tmp_path, on_damage="skip")
    found = sorted(name for step in ids_of(streaming) for name in step)
    assert found == sorted(set(open_cache(url).ids) - {row["id"]})
    assert list(streaming.damaged) == [5]
    assert streaming.counters.refetched > 0


def test_a_broken_loop_ends_the_threads(url: str, tmp_path: Path) -> None:
    steps = stream(url, tmp_path, window_shards=1, ahead_shards=1, prefetch=1).steps()
    next(steps)
    steps.close()  # type: ignore[attr-defined]
    assert not [t for t in threading.enumerate() if t.name.startswith("kdcache-")]


def test_the_quality_of_the_shuffle_is_told(url: str, tmp_path: Path) -> None:
    narrow = stream(url, tmp_path, window_shards=1).shuffle_quality()
    wide = stream(url, tmp_path, window_shards=UNITS).shuffle_quality()
    assert narrow is not None
    assert wide is not None
    assert narrow != wide
    assert 1 / UNITS <= wide.one_shard <= 1 <= wide.shards <= UNITS
    assert stream(url, None).shuffle_quality() is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window_shards": 0}, "window_shards is 0"),
        ({"disk_cache_bytes": 0}, "disk_cache_bytes is 0"),
        ({"ahead_shards": 0}, "ahead_shards is 0"),
    ],
)
def test_impossible_settings_are_refused(
    url: str, tmp_path: Path, settings: dict[str, int], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        stream(url, tmp_path, **settings)


def test_a_window_needs_shards(tmp_path: Path) -> None:
    class Bare:
        snapshot, durations = "", [1.0]

    with pytest.raises(ConfigError, match="has no shards"):
        Stream(Bare(), window_shards=2)  # type: ignore[arg-type]


def slow_down(monkeypatch: pytest.MonkeyPatch, before: Callable[[], None]) -> None:
    """Have every read of a whole object begin with ``before``."""
    from kdcache.store.objects import ObjectStorage

    plain = ObjectStorage.read

    def read(self: ObjectStorage, key: str) -> bytes:
        before()
        return plain(self, key)

    monkeypatch.setattr(ObjectStorage, "read", read)
