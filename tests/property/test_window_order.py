"""A window over shards: the same steps for any number of workers, and few shards at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcache.errors import ConfigError
from kdcache.store.files import FileRecord
from kdcache.store.shards import ShardsOfRows
from kdcache.stream.ahead import Schedule
from kdcache.stream.plan import plan_epoch
from kdcache.stream.window import measure_shuffle, plan_window

catalogues = st.tuples(
    st.lists(st.tuples(st.floats(0.1, 30.0), st.integers(0, 12)), max_size=200),
    st.integers(1, 15),
    st.integers(0, 2**64 - 1),
    st.integers(0, 3),
)


def sharded(codes: np.ndarray, count: int, size: int = 10) -> ShardsOfRows:
    records = tuple(FileRecord(f"data/{n}.tar", size, f"{n:032x}") for n in range(count))
    return ShardsOfRows(codes.astype(np.int32), records)


def even(rows: int, shards: int) -> ShardsOfRows:
    """As extraction leaves it: neighbours in the catalogue share a shard."""
    return sharded(np.arange(rows) * shards // rows, shards)


@given(catalogues, st.floats(1.0, 100.0))
def test_every_row_exactly_once_within_the_limit(
    drawn: tuple[list[tuple[float, int]], int, int, int], batch_seconds: float
) -> None:
    rows, window, seed, epoch = drawn
    durations = np.array([duration for duration, _ in rows])
    shards = sharded(np.array([code for _, code in rows]), 13)
    plan = plan_window(
        durations, shards, window, seed=seed, epoch=epoch, batch_seconds=batch_seconds
    )
    batches = [plan.batch(number) for number in range(len(plan))]
    assert sorted(row for batch in batches for row in batch.tolist()) == list(range(len(rows)))
    assert all(len(b) == 1 or durations[b].max() * len(b) <= batch_seconds for b in batches)


@settings(max_examples=50)
@given(catalogues, st.sampled_from([1, 2, 4, 8]))
def test_workers_share_the_steps_and_their_schedules_know_their_shards(
    drawn: tuple[list[tuple[float, int]], int, int, int], world_size: int
) -> None:
    rows, window, seed, epoch = drawn
    durations = np.array([duration for duration, _ in rows])
    shards = sharded(np.array([code for _, code in rows]), 13)
    size = {"batch_seconds": 40.0, "micro_batches_per_step": 8}
    plan = plan_window(durations, shards, window, seed=seed, epoch=epoch, **size)
    for index, step in enumerate(plan.steps):
        shares = [plan.share(index, rank, world_size) for rank in range(world_size)]
        dealt = sorted(batch.tolist() for share in shares for batch in share)
        assert dealt == sorted(batch.tolist() for batch in step)
    for rank in range(world_size):
        schedule = Schedule.of(plan, shards, rank, world_size)
        needs: dict[int, list[int]] = {}
        for index in range(len(plan)):
            for batch in plan.share(index, rank, world_size):
                for code in shards.code_N[batch].tolist():
                    needs.setdefault(code, []).append(index)
        found = zip(schedule.shards, schedule.first_Q, schedule.last_Q, strict=True)
        assert {code: (first, last) for code, first, last in found} == {
            code: (min(steps), max(steps)) for code, steps in needs.items()
        }
        assert schedule.first_Q.tolist() == sorted(schedule.first_Q)


@pytest.mark.parametrize("window", [1, 4, 16])
def test_few_shards_are_needed_at_a_time(window: int) -> None:
    rows, count = 40_000, 200
    shards = even(rows, count)
    durations = np.random.default_rng(0).uniform(1, 20, rows)
    plan = plan_window(durations, shards, window, seed=1, epoch=0, batch_seconds=100.0)
    schedule = Schedule.of(plan, shards, 0, 1)
    sizes = np.full(count, 10)
    at_once = schedule.most_bytes(sizes, 0) // 10
    # Micro-batches that fill up slowly hold on to shards of a while ago.
    assert window <= at_once <= window + 12
    assert schedule.most_bytes(sizes, 5) // 10 == at_once + 5
    assert schedule.most_bytes(sizes, 10**6) // 10 == count
    whole = plan_epoch(durations, seed=1, epoch=0, batch_seconds=100.0)
    assert Schedule.of(whole, shards, 0, 1).most_bytes(sizes, 0) // 10 == count


def test_a_wider_window_mixes_better() -> None:
    rows, count = 40_000, 200
    shards = even(rows, count)
    durations = np.random.default_rng(0).uniform(1, 20, rows)
    size = {"seed": 1, "epoch": 0, "batch_seconds": 200.0}
    found = [
        measure_shuffle(plan_window(durations, shards, window, **size), shards)
        for window in (1, 4, 16, 64)
    ]
    shares = [quality.one_shard for quality in found]
    assert shares == sorted(shares, reverse=True)
    whole = measure_shuffle(plan_epoch(durations, **size), shards)
    assert whole.distance == pytest.approx(1.0, abs=0.03)
    assert found[-1].distance > 0.9
    assert found[0].distance < 0.5
    assert found[-1].one_shard < 1.5 * whole.one_shard
    assert found[0].shards < found[-1].shards <= whole.shards


def test_epochs_and_seeds_differ_and_the_order_is_pinned() -> None:
    shards, durations = even(12, 4), np.ones(12)

    def order(**changes: int) -> list[list[int]]:
        plan = plan_window(
            durations, shards, **{"window": 2, "seed": 7, "epoch": 0} | changes, batch_seconds=2.0
        )
        return [plan.batch(number).tolist() for number in range(len(plan))]

    assert order() == PINNED
    assert len({str(order(**c)) for c in ({}, {"seed": 8}, {"epoch": 1}, {"window": 3})}) == 4


PINNED = [[0, 2], [4, 5], [1, 7], [3, 11], [9, 6], [8, 10]]


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="must be positive"):
        plan_window(np.ones(4), even(4, 2), 1, seed=0, epoch=0, batch_seconds=0.0)


def test_the_quality_of_nothing_to_shuffle() -> None:
    plan = plan_window(np.ones(4), even(4, 2), 1, seed=0, epoch=0, batch_seconds=0.5)
    assert measure_shuffle(plan, even(4, 2)).one_shard == 1.0
