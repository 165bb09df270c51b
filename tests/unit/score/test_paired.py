"""The paired bootstrap: against all resamples there are, a closed form, and by its properties."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdcache.errors import InputError
from kdcache.score.counts import ErrorCounts
from kdcache.score.paired import FEWEST_GROUPS, relative_change

if TYPE_CHECKING:
    from collections.abc import Sequence

errors = st.lists(st.integers(0, 9), min_size=2, max_size=30)


def counts_of(errors: Sequence[int], groups: Sequence[str] | None = None) -> ErrorCounts:
    ids = tuple(f"u{n:03d}" for n in range(len(errors)))
    words = tuple(10 for _ in errors)
    return ErrorCounts({}, ids, tuple(groups or ids), words, tuple(errors))


def found(arm: Any, control: Any, **how: Any) -> Any:
    change = relative_change([counts_of(arm)], [counts_of(control)], **how)
    assert change is not None
    return change


def test_the_change_is_that_of_the_rates() -> None:
    assert found([1, 2, 3], [4, 4, 4]).change == pytest.approx(6 / 12 - 1)


def test_the_interval_is_that_of_all_resamples() -> None:
    arm, control = [3, 1, 0, 7], [5, 2, 1, 4]
    everything = [
        sum(arm[i] for i in drawn) / sum(control[i] for i in drawn) - 1
        for drawn in product(range(4), repeat=4)
    ]
    change = found(arm, control, resamples=200_000)
    exact = np.quantile(everything, [0.025, 0.975], method="inverted_cdf")
    # Of 256 values some are apart; a drawn quantile may fall on a neighbour.
    near = np.quantile(everything, [0.02, 0.03, 0.97, 0.98], method="inverted_cdf")
    assert near[0] <= change.low <= near[1]
    assert near[2] <= change.high <= near[3]
    assert (change.low, change.high) == pytest.approx(exact, abs=0.05)


def test_the_interval_is_the_normal_one_where_utterances_are_many() -> None:
    random = np.random.RandomState(3)
    control = random.poisson(4.0, 2000) + 1
    arm = random.binomial(control, 0.8)
    # The ratio of two means, by the delta method, of paired samples.
    ratio = arm.mean() / control.mean()
    spread = np.std(arm - ratio * control) / control.mean() / np.sqrt(len(arm))
    change = found(arm.tolist(), control.tolist())
    assert change.low == pytest.approx(ratio - 1 - 1.96 * spread, abs=0.15 * spread)
    assert change.high == pytest.approx(ratio - 1 + 1.96 * spread, abs=0.15 * spread)


def test_pairing_takes_what_both_have_in_common_out() -> None:
    hard = np.random.RandomState(0).randint(0, 40, 200)
    change = found((hard * 2).tolist(), (hard * 4).tolist())
    assert (change.low, change.change, change.high) == pytest.approx((-0.5, -0.5, -0.5))


@given(errors)
def test_an_arm_against_itself_is_no_change(counts: list[int]) -> None:
    change = relative_change([counts_of(counts)], [counts_of(counts)], resamples=200)
    assert change is None or (change.change, change.low, change.high) == (0.0, 0.0, 0.0)


@given(errors, st.integers(1, 5))
def test_more_errors_everywhere_are_that_many_times_the_rate(counts: list[int], by: int) -> None:
    more = [n * by for n in counts]
    change = relative_change([counts_of(more)], [counts_of(counts)], resamples=200)
    if sum(counts):
        assert change is not None
        assert (change.low, change.change, change.high) == pytest.approx((by - 1,) * 3)
    else:
        assert change is None


def test_a_control_without_errors_has_no_relative_change() -> None:
    assert relative_change([counts_of([1, 2])], [counts_of([0, 0])]) is None


def test_seeds_are_pooled() -> None:
    arm = [counts_of([0, 4]), counts_of([2, 2])]
    control = [counts_of([4, 4]), counts_of([4, 0]), counts_of([0, 4])]
    change = relative_change(arm, control)
    assert change is not None
    assert change.change == pytest.approx((8 / 2) / (16 / 3) - 1)


def test_equal_seeds_are_no_more_than_one() -> None:
    one, three = [counts_of([1, 5, 2])], [counts_of([1, 5, 2])] * 3
    control = [counts_of([2, 6, 6])]
    assert relative_change(one, control) == relative_change(three, control)


def test_many_speakers_are_resampled_whole() -> None:
    speakers = [f"s{n % FEWEST_GROUPS}" for n in range(200)]
    # Within a speaker the arm is better everywhere or nowhere: 10 things were seen, not 200.
    arm = [int(n % FEWEST_GROUPS < 5) for n in range(200)]
    control = [1] * 200
    by_speaker = relative_change([counts_of(arm, speakers)], [counts_of(control, speakers)])
    by_utterance = relative_change([counts_of(arm)], [counts_of(control)])
    assert by_speaker is not None
    assert by_utterance is not None
    assert (by_speaker.resampled, by_utterance.resampled) == ("speakers", "utterances")
    assert by_speaker.high - by_speaker.low > 2 * (by_utterance.high - by_utterance.low)


def test_a_handful_of_speakers_is_too_few() -> None:
    few = ["a", "b"] * 6
    change = relative_change([counts_of([1] * 12, few)], [counts_of([2] * 12, few)])
    assert change is not None
    assert change.resampled == "utterances"


def test_equal_seeds_of_the_bootstrap_give_equal_intervals() -> None:
    arm, control = [1, 2, 3, 4], [4, 3, 2, 5]
    assert found(arm, control, seed=5) == found(arm, control, seed=5)
    assert found(arm, control, seed=5, resamples=500) != found(arm, control, seed=6, resamples=500)


def test_other_utterances_are_refused() -> None:
    with pytest.raises(InputError, match="not scored on the same utterances; score both on one"):
        relative_change([counts_of([1, 2])], [counts_of([1, 2, 3])])
