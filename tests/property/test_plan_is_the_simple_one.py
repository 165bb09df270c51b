"""The plan of an epoch is, bit for bit, that of a plain loop over sorted rows.

The loop is what planned every epoch before it was made fast. Positions that users have saved
mean the order that it gives.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kdcache.stream.buckets import BUCKETS, bucket_of
from kdcache.stream.cut import cut, room_for
from kdcache.stream.plan import plan_epoch
from kdcache.stream.shuffle import hashes, in_hash_order, shuffled


def simple_plan(
    durations: np.ndarray, seed: int, epoch: int, batch_seconds: float, shuffle: bool
) -> list[list[int]]:
    """Micro-batches in the order of training."""
    count = len(durations)
    rows = simple_shuffle(count, seed, 2 * epoch) if shuffle else np.arange(count)
    edges = simple_edges(durations)
    buckets = np.searchsorted(edges, durations, side="right")
    batches: list[list[int]] = []
    for bucket in range(len(edges) + 1):
        batches += simple_cut(rows[buckets[rows] == bucket].tolist(), durations, batch_seconds)
    if shuffle:
        batches = [batches[i] for i in simple_shuffle(len(batches), seed, 2 * epoch + 1)]
    return batches


def simple_cut(rows: list[int], durations: np.ndarray, batch_seconds: float) -> list[list[int]]:
    batches, start, longest = [], 0, 0.0
    for i, row in enumerate(rows):
        grown = max(longest, float(durations[row]))
        if i > start and grown * (i - start + 1) > batch_seconds:
            batches.append(rows[start:i])
            start, grown = i, float(durations[row])
        longest = grown
    return [*batches, rows[start:]] if rows else []


def simple_edges(durations: np.ndarray) -> np.ndarray:
    if not len(durations):
        return np.empty(0)
    return np.unique(np.quantile(durations, np.linspace(0, 1, BUCKETS + 1)[1:-1]))


def simple_shuffle(count: int, seed: int, salt: int) -> np.ndarray:
    return np.argsort(simple_hashes(count, seed, salt), kind="stable")


def simple_hashes(count: int, seed: int, salt: int) -> np.ndarray:
    key = np.array([seed % 2**64, salt % 2**64], np.uint64)
    start = mix(mix(key[:1]) + key[1:])
    return mix(np.arange(count, dtype=np.uint64) + start)


def mix(x: np.ndarray) -> np.ndarray:
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


durations_strategy = st.one_of(
    st.lists(st.floats(0.0, 40.0), max_size=300).map(np.array),
    st.lists(st.sampled_from([0.0, 0.001, 0.1, 0.3, 1.0, 7.0, 400.0]), max_size=300).map(np.array),
    hnp.arrays(
        np.float64, st.integers(0, 2000), elements=st.floats(0.01, 2000.0), fill=st.just(2.5)
    ),
)
seconds_strategy = st.one_of(st.floats(0.01, 1000.0), st.sampled_from([0.3, 1.0, 30.0, 400.0]))


@given(
    durations_strategy,
    st.integers(0, 2**64 - 1),
    st.integers(0, 9),
    seconds_strategy,
    st.booleans(),
)
def test_the_same_micro_batches_in_the_same_order(
    durations: np.ndarray, seed: int, epoch: int, batch_seconds: float, shuffle: bool
) -> None:
    plan = plan_epoch(
        durations, seed=seed, epoch=epoch, batch_seconds=batch_seconds, shuffle=shuffle
    )
    found = [plan.batch(number).tolist() for number in range(len(plan))]
    assert found == simple_plan(durations, seed, epoch, batch_seconds, shuffle)


@pytest.mark.parametrize("batch_seconds", [3.0, 60.0, 4000.0])
def test_the_same_for_tens_of_thousands_of_rows(batch_seconds: float) -> None:
    """Enough rows for many cells and for micro-batches of hundreds of rows."""
    durations = np.random.default_rng(5).gamma(3, 3, 40_000)
    durations[:200] = 0.001
    plan = plan_epoch(durations, seed=1, epoch=2, batch_seconds=batch_seconds)
    found = [plan.batch(number).tolist() for number in range(len(plan))]
    assert found == simple_plan(durations, 1, 2, batch_seconds, True)


@given(st.integers(0, 3000), st.integers(0, 2**64 - 1), st.integers(0, 20))
def test_the_shuffle_is_that_of_its_hashes(count: int, seed: int, salt: int) -> None:
    expected = simple_shuffle(count, seed, salt)
    assert shuffled(count, seed, salt).tolist() == expected.tolist()
    assert np.array_equal(hashes(np.arange(count), seed, salt), simple_hashes(count, seed, salt))
    some = expected[expected % 3 == 0]
    assert in_hash_order(np.sort(some).astype(np.int32), seed, salt).tolist() == some.tolist()


def test_the_shuffle_crosses_blocks_and_large_numbers() -> None:
    assert shuffled(200_000, 3, 4).tolist() == simple_shuffle(200_000, 3, 4).tolist()
    far = np.arange(2**40, 2**40 + 9)
    assert sorted(in_hash_order(far, 1, 0).tolist()) == far.tolist()


@given(durations_strategy)
def test_buckets_are_those_of_numpy_s_quantiles(durations: np.ndarray) -> None:
    expected = np.searchsorted(simple_edges(durations), durations, side="right")
    assert bucket_of(durations).tolist() == expected.tolist()


@given(st.lists(st.integers(1, 400), max_size=1500), st.integers(1, 400))
def test_cuts_are_greedy(rooms: list[int], least: int) -> None:
    room = np.maximum(np.array(rooms, np.int32), least)
    starts = cut(room).tolist()
    for start, end in zip(starts, [*starts, len(room)][1:], strict=True):
        assert room[start:end].min() >= end - start
        assert end == len(room) or room[start : end + 1].min() < end + 1 - start
    assert starts == sorted(set(starts))
    assert starts[:1] == [0] * bool(rooms)


@given(st.floats(0.0, 1e4), st.floats(1e-3, 1e5))
def test_room_is_exact(duration: float, seconds: float) -> None:
    [room, *_] = room_for(np.full(5000, duration), seconds).tolist()
    assert room == 1 or duration * room <= seconds
    assert room == 5000 or duration * (room + 1) > seconds
