"""How far a run is, and how long it will take."""

from __future__ import annotations

import pytest

from kdcache.extract.pool import Done
from kdcache.extract.tally import RECENT, Snapshot, Tally


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_tally_counts_and_tells():
    now = iter([100.0, 102.0, 104.0, 110.0])
    seen: list[Snapshot] = []
    tally = Tally(10, seen.append, lambda: next(now))
    tally.add(Done(packed=4, failed=1, audio_seconds=60.0, seconds=1.0, bytes=2_500_000))
    tally.add_given_up()
    tally.show()
    assert seen[0] == Snapshot(5, 10, 1, 60.0, 2.0, bytes=2_500_000, seconds_left=2.0)
    assert (seen[2].done, seen[2].failed, seen[2].seconds) == (6, 2, 10.0)
    assert seen[0].speed == 30.0
    assert Snapshot(0, 1, 0, 0.0, 0.0).speed == 0.0
    assert seen[0].to_dict()["speed"] == 30.0


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({}, "0.02 h at 30× real time, 2.5 MB, 1 actor"),
        ({"actors": 3, "gpu": 0.934}, "0.02 h at 30× real time, 2.5 MB, 3 actors, GPU 93 %"),
        (
            {"failed": 1, "halvings": 2},
            "0.02 h at 30× real time, 2.5 MB, 1 actor, 2 batches halved, 1 failed",
        ),
        ({"done": 0, "actors": 0}, "waiting for the first unit, 0 actors"),
    ],
)
def test_a_line_says_what_matters(changes, note):
    values = {"done": 5, "total": 10, "failed": 0, "audio_seconds": 60.0, "seconds": 2.0}
    assert Snapshot(**{**values, "bytes": 2_500_000, "actors": 1, **changes}).note == note


class TestTimeLeft:
    def tally(self, total=1000):
        clock = Clock()
        return clock, Tally(total, lambda _: None, clock)

    def test_nothing_is_known_before_anything_is_done(self):
        clock, tally = self.tally()
        clock.now = 60.0
        assert tally.snapshot().seconds_left is None

    def test_a_pool_that_has_doubled_is_believed(self):
        clock, tally = self.tally(100_000)
        for _ in range(int(2 * RECENT)):
            clock.now += 1.0
            tally.add(Done(10, 0, 1.0, 1.0))
        for _ in range(int(2 * RECENT)):
            clock.now += 1.0
            tally.add(Done(20, 0, 1.0, 1.0))
        left = 100_000 - tally.done
        assert tally.snapshot().seconds_left == pytest.approx(left / 20, rel=0.02)

    def test_what_is_remembered_stays_small(self):
        clock, tally = self.tally()
        for _ in range(5000):
            clock.now += 0.5
            tally.show()
        assert len(tally._marks) <= 110

    def test_at_the_end_nothing_is_left(self):
        clock, tally = self.tally(5)
        clock.now = 3.0
        tally.add(Done(5, 0, 1.0, 1.0))
        assert tally.snapshot().seconds_left == 0.0
