"""Which validation is the best, and how long there has been no better one."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from kdcache.train.best import Best


def run(values: list[float], min_delta: float = 0.0) -> Best:
    best = Best()
    for step, value in enumerate(values, 1):
        best = best.after({"loss": value, "wer": 1.0}, "loss", step, min_delta)
    return best


@given(st.lists(st.floats(0, 100), min_size=1))
def test_the_first_of_the_smallest_is_best(values: list[float]) -> None:
    best = run(values)
    assert best.value == min(values)
    assert best.step == values.index(min(values)) + 1
    assert best.since == len(values) - best.step
    assert best.values == {"loss": best.value, "wer": 1.0}


def test_a_small_improvement_is_kept_and_does_not_count() -> None:
    best = run([5.0, 4.95, 4.92], min_delta=0.1)
    assert (best.step, best.value, best.since) == (3, 4.92, 2)
    # Small improvements add up: it is the last mark that counts, not the one before.
    assert run([5.0, 4.95, 4.89], min_delta=0.1).since == 0


def test_the_first_is_an_improvement_whatever_the_difference() -> None:
    assert run([5.0], min_delta=1e9).since == 0


def test_nan_is_never_the_best() -> None:
    assert run([math.nan]).step == 0
    best = run([math.nan, 3.0, math.nan])
    assert (best.step, best.since) == (2, 1)


def test_it_survives_a_checkpoint() -> None:
    best = run([3.0, 4.0])
    assert Best(**best.to_dict()) == best
