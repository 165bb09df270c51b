"""A few runs of what ``make test-faults`` does a hundred times: one victim of each sort."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from kdcache.store import create_or_open, open_cache
from kdcache.testing.samples import TOKENIZER_FILES, sample_packed, sample_spec
from tests.faults.campaign import UNITS, Campaign
from tests.faults.cluster import TwoNodes
from tests.faults.faults import EARLY, VICTIMS, draw
from tests.faults.reader import Reader

SEED = 2


@pytest.mark.ray
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the actors' processes in /proc")
def test_kills_of_driver_actor_and_raylet_leave_the_same_content(tmp_path):
    with TwoNodes() as nodes:
        campaign = Campaign(tmp_path, nodes)
        goal = campaign.undisturbed()
        outcomes = [campaign.disturbed(goal, SEED, run) for run in range(len(VICTIMS))]
    for outcome in outcomes:
        assert not outcome.wrong, str(outcome)
        assert outcome.rounds > 0, "nobody read"
    assert [outcome.fault.victim for outcome in outcomes] == list(VICTIMS)
    assert sum(outcome.struck for outcome in outcomes) >= 2, "hardly anybody was killed"
    assert outcomes[0].resumed == 1


class TestReader:
    @pytest.fixture
    def cache(self, tmp_path):
        path = tmp_path / "cache"
        writer = create_or_open(path, sample_spec(), "zarr", TOKENIZER_FILES)
        writer.commit("u0", [sample_packed(writer.spec, "a")], [], "x")
        writer.commit("u1", [sample_packed(writer.spec, "b")], [], "x")
        return path

    def read(self, cache, expected=None, meanwhile=lambda: None):
        rows = open_cache(cache).catalogue.select(["id", "checksum"]).to_pylist()
        truth = {row["id"]: row["checksum"] for row in rows}
        with Reader(cache, {**truth, **(expected or {})}) as reader:
            wait_for(lambda: reader.rounds or reader.wrong)
            meanwhile()
            rounds = reader.rounds
            wait_for(lambda: reader.rounds > rounds + 1 or reader.wrong)
        return reader.wrong

    def test_what_is_right_is_not_complained_of(self, cache):
        assert self.read(cache) == []

    def test_other_content_is_noticed(self, cache):
        assert "b holds something else" in self.read(cache, {"b": "another"})

    def test_what_vanishes_is_noticed(self, cache):
        wrong = self.read(cache, meanwhile=(cache / "commits" / "u1.json").unlink)
        assert "b has vanished" in wrong

    def test_damage_is_noticed(self, cache):
        (shard,) = (cache / "data").glob("u0-*")
        raw = bytearray(shard.read_bytes())
        raw[len(raw) // 2] ^= 1
        assert self.read(cache, meanwhile=lambda: shard.write_bytes(raw)) != []


def wait_for(met):
    deadline = time.monotonic() + 60
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class TestMoments:
    def faults(self, seed=1, runs=300):
        return [draw(seed, run, UNITS, 0.1, 5.0) for run in range(runs)]

    def test_the_same_seed_draws_the_same(self):
        assert self.faults() == self.faults()
        assert self.faults(1) != self.faults(2)

    def test_a_run_does_not_depend_on_those_before_it(self):
        assert draw(1, 17, UNITS, 0.1, 5.0) == self.faults()[17]

    def test_victims_take_turns(self):
        assert [fault.victim for fault in self.faults(runs=6)] == [*VICTIMS, *VICTIMS]

    def test_moments_cover_the_whole_run(self):
        early = [fault for fault in self.faults() if fault.commits < 0]
        assert {fault.victim for fault in early} == {"driver"}
        assert 0.1 * 100 < len(early) < 2 * EARLY * 100
        later = [fault for fault in self.faults() if fault.commits >= 0]
        assert {fault.commits for fault in later} == set(range(UNITS - 1))
        assert all(0 <= fault.delay <= 0.2 for fault in later)
