"""The best band: against every band of small lattices, and what a rule makes of it."""

from __future__ import annotations

import math
import pickle
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
import torch
from lattices import random_lattice

from kdcache.errors import ConfigError, InputError
from kdcache.lattice import BandRule, forward_backward, node_log_probs, node_occupancy
from kdcache.lattice.band import best_band, least_width

SIZES = [(t, c) for t in range(1, 6) for c in range(1, 6)]


def every_band(frames: int, columns: int, width: int) -> list[tuple[int, ...]]:
    """By its definition: all sequences of starts that make a connected band."""
    last = columns - width
    return [
        starts
        for starts in product(range(last + 1), repeat=frames)
        if starts[0] == 0
        and starts[-1] == last
        and all(0 <= b - a < width for a, b in pairwise(starts))
    ]


def kept(occupancy: np.ndarray, starts: tuple[int, ...], width: int) -> float:
    return sum(float(row[s : s + width].sum()) for row, s in zip(occupancy, starts, strict=True))


def occupancy_of(frames: int, labels: int, seed: int = 0) -> np.ndarray:
    """Of a random lattice, as the target gets it."""
    lattice = random_lattice([frames], [labels], vocab=6, seed=seed)
    arcs = node_log_probs(lattice.logits, lattice.labels, 0)
    found = forward_backward(*arcs, lattice.frames, lattice.lengths)
    occupancy: np.ndarray = node_occupancy(found)[0].numpy()
    return occupancy


@pytest.mark.parametrize(("frames", "columns"), SIZES)
def test_is_the_best_of_all_and_of_equals_the_lowest(frames: int, columns: int) -> None:
    rng = np.random.default_rng([frames, columns])
    for width, _ in product(range(1, columns + 1), range(8)):
        bands = every_band(frames, columns, width)
        assert bool(bands) == (width >= least_width(frames, columns - 1))
        # Small integers: sums are exact, and many bands are equally good.
        occupancy = rng.integers(0, 3, (frames, columns)).astype(float)
        if bands and occupancy.any():
            found = best_band(occupancy, width)
            greatest = max(kept(occupancy, band, width) for band in bands)
            equals = [band for band in bands if kept(occupancy, band, width) == greatest]
            assert found.starts_T.tolist() == [min(starts) for starts in zip(*equals, strict=True)]
            assert found.outside == pytest.approx(1 - greatest / occupancy.sum(), abs=1e-12)


@pytest.mark.parametrize(("frames", "labels"), [(1, 0), (1, 3), (6, 0), (5, 4), (4, 9)])
def test_the_width_of_all_columns_is_the_whole_lattice(frames: int, labels: int) -> None:
    band = best_band(occupancy_of(frames, labels), labels + 1)
    assert band.starts_T.tolist() == [0] * frames
    assert band.outside == 0


def test_a_certain_alignment_needs_two_columns_and_loses_nothing() -> None:
    occupancy = np.zeros((6, 4))
    for t, u in [(0, 0), (1, 0), (1, 1), (2, 1), (3, 1), (3, 2), (4, 2), (4, 3), (5, 3)]:
        occupancy[t, u] = 1.0
    band = BandRule(epsilon=0).choose(occupancy)
    assert (band.width, band.outside) == (2, 0)
    assert band.starts_T.dtype == np.int32


@pytest.mark.parametrize("epsilon", [0, 1e-6, 1e-3, 0.05, 0.3, 0.9])
def test_epsilon_takes_the_narrowest_that_keeps_enough(epsilon: float) -> None:
    for seed in range(4):
        occupancy = occupancy_of(30, 12, seed)
        widths = range(least_width(30, 12), 14)
        enough = [width for width in widths if best_band(occupancy, width).outside <= epsilon]
        band = BandRule(epsilon=epsilon).choose(occupancy)
        assert band.width == enough[0]
        assert band.outside <= epsilon


def test_windows_that_must_not_be_chosen_freely() -> None:
    """Each frame alone would go back and forth; the narrowest band takes a search."""
    occupancy = np.full((8, 9), 1e-9)
    occupancy[np.arange(8), [0, 8, 0, 8, 0, 8, 0, 8]] = 1.0
    band = BandRule(epsilon=1e-3).choose(occupancy)
    assert band.width == 9
    assert BandRule(epsilon=0.51).choose(occupancy).width < 9


def test_width_caps_what_epsilon_asks_for() -> None:
    occupancy = occupancy_of(20, 10)
    free = BandRule(epsilon=1e-4).choose(occupancy)
    assert BandRule(1e-4, width=free.width).choose(occupancy).width == free.width
    capped = BandRule(1e-4, width=free.width - 1).choose(occupancy)
    assert capped.width == free.width - 1
    assert capped.outside > 1e-4
    assert BandRule(0.9, width=free.width).choose(occupancy).width < free.width


def test_a_width_is_the_same_for_all_but_who_needs_more() -> None:
    rule = BandRule(width=3)
    assert rule.choose(occupancy_of(20, 10)).width == 3
    assert rule.choose(occupancy_of(20, 1)).width == 2  # the whole lattice
    assert rule.choose(occupancy_of(2, 9)).width == 6  # 9 labels in 2 frames
    assert rule.choose(occupancy_of(1, 4)).width == 5


def test_a_share_too_small_for_one_minus_it_is_still_told() -> None:
    occupancy = np.zeros((3, 3))
    occupancy[:, 0] = occupancy[2] = 1.0
    occupancy[0, 2] = 1e-30
    outside = best_band(occupancy, 2).outside
    assert 0 < outside < 1


@pytest.mark.parametrize(
    "occupancy",
    [
        np.full((2, 2), np.nan),
        np.zeros((2, 2)),
        np.array([[1.0, -0.1]]),
        np.array([[np.inf]]),
        np.zeros((0, 1)),
        np.ones(3),
    ],
)
def test_what_is_no_occupancy_is_named(occupancy: np.ndarray) -> None:
    with pytest.raises(InputError, match="Occupancies"):
        BandRule(width=2).choose(occupancy)


@pytest.mark.parametrize("epsilon", [-0.1, 1, 1.5, math.nan, "0.1", True])
def test_epsilon_out_of_range(epsilon: Any) -> None:
    with pytest.raises(ConfigError, match="epsilon is .* at least 0 and below 1"):
        BandRule(epsilon=epsilon)


@pytest.mark.parametrize("width", [0, 1, -3, 2.0, "5", True])
def test_width_out_of_range(width: Any) -> None:
    with pytest.raises(ConfigError, match="width is .* an integer from 2 on"):
        BandRule(width=width)


def test_a_rule_is_a_value() -> None:
    assert pickle.loads(pickle.dumps(BandRule(0.1, 5))) == BandRule(0.1, 5)
    assert BandRule().is_whole
    assert not BandRule(epsilon=0).is_whole


def test_same_input_same_starts() -> None:
    occupancy = occupancy_of(50, 20)
    rule = BandRule(epsilon=1e-3)
    first, second = rule.choose(occupancy), rule.choose(torch.tensor(occupancy).numpy())
    assert np.array_equal(first.starts_T, second.starts_T)
    assert first[1:] == second[1:]
