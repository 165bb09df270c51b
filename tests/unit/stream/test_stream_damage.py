"""Damaged bytes in a stream: an error by name, or an utterance less, counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pyarrow.parquet as pq
import pytest

from kdcache.errors import ConfigError, DamagedCacheError
from kdcache.store import create_or_open
from kdcache.stream import Stream, stream_cache
from kdcache.testing.samples import TOKENIZER_FILES, sample_packed, sample_spec

if TYPE_CHECKING:
    from pathlib import Path

IDS = [f"utt-{i:02d}" for i in range(12)]


@pytest.fixture(params=["zarr", "webdataset"])
def cache(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / "cache"
    writer = create_or_open(path, sample_spec(), request.param, TOKENIZER_FILES)
    for unit in range(3):
        packed = [sample_packed(writer.spec, name) for name in IDS[4 * unit : 4 * unit + 4]]
        writer.commit(f"u{unit}", packed, [], "x")
    return path


def damage(cache: Path) -> str:
    """Flip a bit of the sixth utterance's lattice; its id."""
    [part] = (cache / "catalogue").glob("u1-*.parquet")
    row = next(row for row in pq.read_table(part).to_pylist() if row["id"] == IDS[5])
    [shard] = (cache / "data").glob("u1-*")
    data = bytearray(shard.read_bytes())
    data[row["at.lattice.logp"]] ^= 4
    shard.write_bytes(data)
    return IDS[5]


def open_stream(cache: Path, on_damage: Literal["raise", "skip"]) -> Stream:
    return stream_cache(cache, batch_seconds=40, seed=2, on_damage=on_damage)


def test_damage_is_raised_by_name(cache: Path) -> None:
    name = damage(cache)
    with pytest.raises(DamagedCacheError, match=f"utterance '{name}'"):
        list(open_stream(cache, "raise"))


def test_damage_may_be_skipped_and_is_counted(cache: Path) -> None:
    whole = [batch.ids for batch in open_stream(cache, "raise")]
    name = damage(cache)
    stream = open_stream(cache, "skip")
    for _ in range(2):
        found = [batch.ids for batch in stream]
        assert sorted(i for ids in found for i in ids) == sorted(set(IDS) - {name})
    assert list(stream.damaged) == [5]
    assert f"utterance {name!r}" in stream.damaged[5]
    # What is left comes in the order that it had.
    first = [batch.ids for batch in open_stream(cache, "skip")]
    assert [i for ids in first for i in ids] == [i for ids in whole for i in ids if i != name]


def test_a_micro_batch_of_damage_alone_is_left_out(cache: Path) -> None:
    name = damage(cache)
    stream = stream_cache(cache, batch_seconds=1, seed=2, on_damage="skip")  # one each
    batches = list(stream)
    assert len(batches) == 11
    assert all(name not in batch.ids for batch in batches)


def test_an_unknown_choice_is_refused(cache: Path) -> None:
    with pytest.raises(ConfigError, match=r"on_damage is 'skipp'.*Did you mean"):
        open_stream(cache, "skipp")  # type: ignore[arg-type]
