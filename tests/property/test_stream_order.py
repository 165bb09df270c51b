"""The order of a stream depends on seed and catalogue alone: not on workers, not on stops."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcache.errors import ConfigError
from kdcache.stream import Example, Stream, plan_epoch
from kdcache.stream.collate import collate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcache.batch import Batch

durations_strategy = st.lists(st.floats(0.1, 30.0), min_size=0, max_size=200).map(np.array)


class MemorySource:
    """Utterances that are their own row number."""

    def __init__(self, durations: np.ndarray) -> None:
        self.durations = durations
        self.snapshot = f"{len(durations)}"

    def load(self, row: int) -> Example:
        tokens = np.full(row % 5, row, np.int64)
        return Example(str(row), str(row), tokens, np.full(3 + row % 7, row, np.float32))

    def load_batch(self, rows: Sequence[int]) -> Batch:
        return collate([self.load(row) for row in rows])


def steps_of(stream: Stream) -> list[list[tuple[str, ...]]]:
    return [[batch.ids for batch in step.batches] for step in stream.steps()]


@given(durations_strategy, st.integers(0, 2**40), st.integers(0, 5), st.floats(1.0, 100.0))
def test_every_row_exactly_once(
    durations: np.ndarray, seed: int, epoch: int, batch_seconds: float
) -> None:
    plan = plan_epoch(durations, seed=seed, epoch=epoch, batch_seconds=batch_seconds)
    rows = [row for step in plan.steps for batch in step for row in batch.tolist()]
    assert sorted(rows) == list(range(len(durations)))


@given(durations_strategy, st.integers(0, 2**40), st.floats(1.0, 100.0))
def test_padded_seconds_stay_within_the_limit(
    durations: np.ndarray, seed: int, batch_seconds: float
) -> None:
    plan = plan_epoch(durations, seed=seed, epoch=0, batch_seconds=batch_seconds)
    for step in plan.steps:
        for rows in step:
            padded = durations[rows].max() * len(rows)
            assert len(rows) == 1 or padded <= batch_seconds


@given(durations_strategy, st.integers(0, 99), st.sampled_from([1, 2, 4, 8]))
def test_any_number_of_workers_sees_the_same_steps(
    durations: np.ndarray, seed: int, world_size: int
) -> None:
    plan = plan_epoch(durations, seed=seed, epoch=1, batch_seconds=20.0, micro_batches_per_step=8)
    for index, step in enumerate(plan.steps):
        shares = [plan.share(index, rank, world_size) for rank in range(world_size)]
        dealt = sorted(rows.tolist() for share in shares for rows in share)
        assert dealt == sorted(rows.tolist() for rows in step)
        assert plan.utterances(index) == sum(map(len, dealt))


WORLDS = [1, 2, 4, 8]
FEW_BYTES = 400
"""What a saved position takes, as JSON, at most."""


@settings(max_examples=30)
@given(
    st.lists(st.floats(0.1, 9.0), min_size=1, max_size=60).map(np.array),
    st.integers(0, 2**63),
    st.integers(0, 3),
    st.data(),
)
def test_resumes_at_any_step_with_any_number_of_workers(
    durations: np.ndarray, seed: int, epoch: int, data: st.DataObject
) -> None:
    shared = {"batch_seconds": 10.0, "seed": seed, "micro_batches_per_step": 8}
    source = MemorySource(durations)
    whole = Stream(source, **shared)
    epochs = [steps_of(whole) for _ in range(epoch + 2)]
    stop = data.draw(st.integers(0, len(epochs[epoch]) - 1))
    before, after = data.draw(st.sampled_from(WORLDS)), data.draw(st.sampled_from(WORLDS))
    states = [
        state_after(Stream(source, rank=rank, world_size=before, **shared), epoch, stop)
        for rank in range(before)
    ]
    assert all(state == states[0] for state in states), "it does not matter who saves it"
    text = json.dumps(states[0])
    assert len(text) < FEW_BYTES
    workers = [Stream(source, rank=rank, world_size=after, **shared) for rank in range(after)]
    for worker in workers:
        worker.load_state_dict(json.loads(text))
    assert together(workers) == epochs[epoch][stop:]
    assert together(workers) == epochs[epoch + 1], "and so does the epoch after"


@settings(max_examples=20)
@given(
    st.lists(st.floats(0.1, 9.0), max_size=80).map(np.array),
    st.integers(0, 99),
    st.integers(1, 3),
)
def test_streams_of_any_world_give_every_utterance_once(
    durations: np.ndarray, seed: int, times: int
) -> None:
    shared = {"batch_seconds": 10.0, "seed": seed, "micro_batches_per_step": 8 * times}
    source = MemorySource(durations)
    expected = steps_of(Stream(source, **shared))
    ids = [name for step in expected for batch in step for name in batch]
    assert sorted(ids) == sorted(map(str, range(len(durations))))
    for size in WORLDS:
        workers = [Stream(source, rank=rank, world_size=size, **shared) for rank in range(size)]
        assert together(workers) == expected


@settings(max_examples=20)
@given(st.lists(st.floats(0.1, 9.0), min_size=1, max_size=40).map(np.array), st.integers(0, 99))
def test_all_workers_take_every_step_and_divide_by_the_same(
    durations: np.ndarray, seed: int
) -> None:
    """Also the last step, which may have fewer micro-batches than there are workers."""
    source = MemorySource(durations)
    counts = []
    for rank in range(8):
        stream = Stream(source, seed=seed, batch_seconds=9.0, rank=rank, world_size=8)
        steps = list(stream.steps())
        counts.append([(s.epoch, s.index, s.utterances) for s in steps])
        assert all(len(s.batches) == 1 for s in steps[:-1])
    assert all(count == counts[0] for count in counts)
    assert sum(utterances for _, _, utterances in counts[0]) == len(durations)


def state_after(stream: Stream, epochs: int, steps: int) -> dict[str, object]:
    """Where a stream is after so many epochs and steps."""
    for _ in range(epochs):
        list(stream.steps())
    running = stream.steps()
    for _ in range(steps):
        next(running)
    state = stream.state_dict()
    running.close()  # type: ignore[attr-defined]
    return state


def together(workers: Sequence[Stream]) -> list[list[tuple[str, ...]]]:
    """The rest of an epoch of all workers: each step's micro-batches in their order."""
    shares = zip(*map(steps_of, workers), strict=True)
    return [[batch for position in _zip_long(share) for batch in position] for share in shares]


def _zip_long(shares: tuple[list[tuple[str, ...]], ...]) -> list[list[tuple[str, ...]]]:
    longest = max(map(len, shares))
    return [[share[i] for share in shares if i < len(share)] for i in range(longest)]


def test_epochs_differ_and_come_back() -> None:
    source = MemorySource(np.linspace(1, 9, 50))
    stream = Stream(source, batch_seconds=20.0, seed=3)
    first, second = steps_of(stream), steps_of(stream)
    assert first != second
    again = Stream(source, batch_seconds=20.0, seed=3)
    assert [steps_of(again), steps_of(again)] == [first, second]
    assert steps_of(Stream(source, batch_seconds=20.0, seed=4)) != first


def test_the_shuffle_is_pinned() -> None:
    """Saved positions of earlier releases mean this very order."""
    plan = plan_epoch(np.ones(8), seed=7, epoch=0, batch_seconds=2.0)
    assert [rows.tolist() for step in plan.steps for rows in step] == [
        [7, 0],
        [6, 5],
        [2, 4],
        [1, 3],
    ]


def test_unshuffled_order_keeps_rows_by_duration_bucket() -> None:
    plan = plan_epoch(np.array([9.0, 1.0, 5.0]), seed=0, epoch=0, batch_seconds=1.0, shuffle=False)
    assert [rows.tolist() for step in plan.steps for rows in step] == [[1], [2], [0]]


def test_another_order_refuses_a_saved_position() -> None:
    source = MemorySource(np.ones(9))
    state = Stream(source, seed=1).state_dict()
    with pytest.raises(ConfigError, match="seed 1 and this stream 2"):
        Stream(source, seed=2).load_state_dict(state)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rank": 2, "world_size": 2}, "rank is 2 of 2 workers"),
        ({"world_size": 2, "micro_batches_per_step": 3}, "3 micro-batches, which 2 workers"),
        ({"batch_seconds": 0.0}, "must be positive"),
    ],
)
def test_impossible_settings_are_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        list(Stream(MemorySource(np.ones(4)), **arguments))
