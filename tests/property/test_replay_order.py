"""Caches that take one another's place change what is learnt, and nothing of the order."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcache.errors import ConfigError
from kdcache.stream import Example, Stream
from kdcache.stream.collate import collate
from kdcache.stream.replay import ReplaySource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcache.batch import Batch

DURATIONS = np.random.default_rng(2).uniform(0.5, 12.0, 60)


class MemorySource:
    """Utterances that are their own row number, and whose text is the cache's name."""

    def __init__(self, name: str, durations: np.ndarray = DURATIONS, shift: float = 0.04) -> None:
        self.durations, self.snapshot, self.frame_shift = durations, name, shift

    def load(self, row: int) -> Example:
        return Example(str(row), self.snapshot, np.full(1, row, np.int64), None)

    def load_batch(self, rows: Sequence[int]) -> Batch:
        return collate([self.load(row) for row in rows])


def source_of(steps: Sequence[int]) -> ReplaySource:
    return ReplaySource([(step, MemorySource(f"from {step}")) for step in steps])


def take(stream: Stream, count: int) -> list[list[tuple[tuple[str, ...], tuple[str, ...]]]]:
    """Ids and texts of each micro-batch of so many steps, over epochs."""
    found: list[Any] = []
    while len(found) < count:
        for step in stream.steps():
            found.append([(batch.ids, batch.texts) for batch in step.batches])
            if len(found) == count:
                break
    return found


changes = st.lists(st.integers(1, 40), max_size=4, unique=True).map(lambda s: [0, *sorted(s)])
sizes = st.sampled_from([15.0, 40.0, 90.0])


@settings(max_examples=20)
@given(changes, sizes, st.integers(0, 2**32), st.integers(1, 4), st.integers(0, 4))
def test_the_order_is_that_of_one_cache_on_any_number_of_workers(
    steps: list[int], seconds: float, seed: int, workers: int, prefetch: int
) -> None:
    shared: dict[str, Any] = {
        "batch_seconds": seconds,
        "seed": seed,
        "micro_batches_per_step": 4,
        "prefetch": prefetch,
    }
    alone = take(Stream(MemorySource("alone"), **shared), 30)
    shares = [
        take(Stream(source_of(steps), rank=rank, world_size=workers, **shared), 30)
        for rank in range(workers)
    ]
    for number, expected in enumerate(alone):
        share = [shares[rank][number] for rank in range(workers)]
        together = [share[n % workers][n // workers] for n in range(len(expected))]
        assert [ids for ids, _ in together] == [ids for ids, _ in expected]
        name = f"from {max(step for step in steps if step <= number)}"
        assert {text for _, texts in together for text in texts} == {name}


@settings(max_examples=40)
@given(changes, sizes, st.integers(0, 2**32), st.integers(0, 29), st.integers(1, 2))
def test_it_goes_on_from_any_step(
    steps: list[int], seconds: float, seed: int, stop: int, workers: int
) -> None:
    shared: dict[str, Any] = {
        "batch_seconds": seconds, "seed": seed, "micro_batches_per_step": 2,
    }  # fmt: skip
    whole = take(Stream(source_of(steps), **shared), 30)
    first = Stream(source_of(steps), **shared)
    take(first, stop)
    state = json.loads(json.dumps(first.state_dict()))
    rest = []
    for rank in range(workers):
        second = Stream(source_of(steps), rank=rank, world_size=workers, **shared)
        second.load_state_dict(state)
        rest.append(take(second, 30 - stop))
    for number, expected in enumerate(whole[stop:]):
        found = [rest[n % workers][number][n // workers] for n in range(len(expected))]
        assert found == expected


def test_examples_are_those_of_the_steps() -> None:
    stream = Stream(source_of([0, 2]), batch_seconds=40.0, seed=3)
    take(stream, 1)
    texts = [example.text for example in stream.examples()]
    steps = [texts for step in take(stream, len(stream.plan(0)) - 1) for _, texts in step]
    assert texts == [text for each in steps for text in each]
    assert set(texts) == {"from 0", "from 2"}


def test_a_position_is_of_these_caches_and_steps() -> None:
    state = Stream(source_of([0, 5])).state_dict()
    with pytest.raises(ConfigError, match="has snapshot"):
        Stream(source_of([0, 6])).load_state_dict(state)


@pytest.mark.parametrize("steps", [[], [1], [0, 3, 3], [0, 4, 2]])
def test_steps_grow_from_zero(steps: list[int]) -> None:
    with pytest.raises(ConfigError, match="expected steps that grow from 0"):
        source_of(steps)


def test_other_utterances_or_frames_are_refused() -> None:
    first = (0, MemorySource("first"))
    with pytest.raises(ConfigError, match=r"from step 7 holds other utterances .*\(59 and 60\)"):
        ReplaySource([first, (7, MemorySource("fewer", DURATIONS[1:]))])
    with pytest.raises(ConfigError, match=r"from step 7 has a frame every 0.08 s"):
        ReplaySource([first, (7, MemorySource("slower", shift=0.08))])
