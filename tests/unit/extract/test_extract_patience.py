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


def persist_at(time, action, patience=300.0):
    return persist(action, patience, clock=lambda: time.now, sleep=time.sleep)


def test_pauses_double_up_to_a_minute():
    assert [pause_after(n) for n in range(9)] == [0, 1, 2, 4, 8, 16, 32, 60, 60]


@given(st.integers(0, 10**9))
def test_no_pause_is_longer(failures):
    assert 0 <= pause_after(failures) <= LONGEST


def test_success_needs_no_pause():
    time = Time()
    assert persist_at(time, failing()) == "done"
    assert time.slept == []


def test_failures_are_waited_out():
    time = Time()
    assert persist_at(time, failing(*[StorageError("503")] * 4)) == "done"
    assert time.slept == [1, 2, 4, 8]


@given(st.floats(0, 1000))
def test_patience_ends_with_the_storages_own_error(patience):
    time = Time()
    with pytest.raises(StorageError, match="timed out"):
        persist_at(time, failing(*[StorageError("timed out")] * 100), patience)
    assert time.now - 100.0 == pytest.approx(patience)


@pytest.mark.parametrize("error", [StorageFullError("no space"), ConfigError("no such column")])
def test_what_time_does_not_mend_is_passed_on_at_once(error):
    time = Time()
    with pytest.raises(type(error)):
        persist_at(time, failing(error))
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
