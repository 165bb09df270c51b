"""How long to wait for a storage that fails."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdcache.errors import ConfigError, StorageError, StorageFullError
from kdcache.extract.patience import LONGEST, Rest, pause_after, persist


@dataclass
class Time:
    now: float = 100.0
    slept: list[float] = field(default_factory=list)

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


def failing(*errors):
    """Raises each of ``errors`` once, then answers."""
    waiting = list(errors)

    def action():
        if waiting:
            raise waiting.pop(0)
        return "done"

    return action


@pytest.fixture
def time(monkeypatch):
    """Time that passes only where somebody sleeps."""
    time = Time()
    monkeypatch.setattr("kdcache.store.retry.time", time)
    return time


def test_pauses_double_up_to_a_minute():
    assert [pause_after(n) for n in range(9)] == [0, 1, 2, 4, 8, 16, 32, 60, 60]


@given(st.integers(0, 10**9))
def test_no_pause_is_longer(failures):
    assert 0 <= pause_after(failures) <= LONGEST


def test_success_needs_no_pause(time):
    assert persist(failing(), "u", 300.0) == "done"
    assert time.slept == []


def test_failures_are_waited_out_with_growing_pauses(time):
    assert persist(failing(*[StorageError("503")] * 5), "u", 300.0) == "done"
    assert len(time.slept) == 5
    for slept, whole in zip(time.slept, (1, 2, 4, 8, 16), strict=True):
        assert whole / 2 <= slept <= whole


def test_actors_do_not_all_come_back_at_once(time):
    for unit in "abc":
        persist(failing(StorageError("503")), unit, 300.0)
    assert len(set(time.slept)) == 3


@pytest.mark.parametrize("patience", [0.0, 1.0, 100.0, 5000.0])
def test_patience_ends_with_the_storages_own_error(time, patience):
    with pytest.raises(StorageError, match="timed out"):
        persist(failing(*[StorageError("timed out")] * 1000), "u", patience)
    assert patience <= time.now - 100.0 <= patience + LONGEST


@pytest.mark.parametrize("error", [StorageFullError("no space"), ConfigError("no such column")])
def test_what_time_does_not_mend_is_passed_on_at_once(time, error):
    with pytest.raises(type(error)):
        persist(failing(error), "u", 300.0)
    assert time.slept == []


def test_a_rest_grows_and_ends_with_a_success():
    time = Time()
    rest = Rest(lambda: time.now, free=1)
    assert rest.over
    rest.failed()
    assert rest.over, "the first failure was to be free"
    rest.failed()
    assert not rest.over
    rest.failed()
    assert rest.failures == 2, "one trouble was counted twice"
    time.now += 1.0
    assert rest.over
    rest.failed()
    time.now += 1.0
    assert not rest.over
    rest.succeeded()
    assert rest.over
    assert rest.failures == 0
