"""Seconds by stage."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest

from kdcache.extract.gauge import Gauge, StageSeconds


def test_they_are_added_stage_by_stage():
    total = StageSeconds(1, 2, 3, 4) + StageSeconds(write=4)
    assert total == StageSeconds(1, 2, 3, 8)
    assert total.shares() == {
        "decode": 1 / 14, "teacher": 2 / 14, "encode": 3 / 14, "write": 8 / 14
    }  # fmt: skip


def test_nothing_has_no_shares():
    assert set(StageSeconds().shares().values()) == {0.0}


def test_they_cross_ray():
    assert pickle.loads(pickle.dumps(StageSeconds(1, 2, 3, 4))) == StageSeconds(1, 2, 3, 4)


def test_threads_count_together_and_what_fails_counts_as_well(monkeypatch):
    gauge = Gauge()

    def fail(_):
        with pytest.raises(ValueError, match="no"), gauge.of("decode"):
            raise ValueError("no")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(fail, range(50)))
    assert gauge.seconds.decode > 0
    assert gauge.seconds.teacher == 0
