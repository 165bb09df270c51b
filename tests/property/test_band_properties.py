"""Bands of any lattice: connected, from end to end, better the wider they are."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kdcache.codec.starts import pack_starts, unpack_starts
from kdcache.lattice import Band, BandRule
from kdcache.lattice.band import best_band, least_width


@st.composite
def occupancies(draw: st.DrawFn) -> np.ndarray:
    """Any weights of nodes, some of them 0, not all."""
    shape = (draw(st.integers(1, 12)), draw(st.integers(1, 14)))
    weights = st.one_of(st.just(0.0), st.floats(1e-12, 1.0))
    drawn = draw(hnp.arrays(np.float64, shape, elements=weights))
    drawn[draw(st.integers(0, shape[0] - 1)), draw(st.integers(0, shape[1] - 1))] = 1.0
    return drawn


def check_connected(band: Band, occupancy: np.ndarray) -> None:
    frames, columns = occupancy.shape
    starts, width = band.starts_T.astype(int), band.width
    step = np.diff(starts)
    assert starts[0] == 0
    assert starts[-1] + width == columns
    assert len(starts) == frames
    assert ((step >= 0) & (step < width)).all()
    assert 0 <= band.outside <= 1


@given(occupancies(), st.integers(2, 16))
def test_a_band_of_any_width_is_connected(occupancy: np.ndarray, width: int) -> None:
    band = BandRule(width=width).choose(occupancy)
    check_connected(band, occupancy)
    frames, columns = occupancy.shape
    assert band.width == min(max(width, least_width(frames, columns - 1)), columns)


@given(occupancies())
def test_a_wider_band_keeps_no_less(occupancy: np.ndarray) -> None:
    frames, columns = occupancy.shape
    widths = range(least_width(frames, columns - 1), columns + 1)
    outside = [best_band(occupancy, width).outside for width in widths]
    assert all(wide <= narrow + 1e-12 for narrow, wide in itertools.pairwise(outside))
    assert outside[-1] == 0


@given(occupancies(), st.floats(0, 0.99))
def test_the_narrowest_that_keeps_enough(occupancy: np.ndarray, epsilon: float) -> None:
    band = BandRule(epsilon=epsilon).choose(occupancy)
    check_connected(band, occupancy)
    assert band.outside <= epsilon
    frames, columns = occupancy.shape
    if band.width > least_width(frames, columns - 1):
        assert best_band(occupancy, band.width - 1).outside > epsilon


@given(st.lists(st.integers(0, 400), max_size=60))
def test_starts_come_back_from_their_bits(steps: list[int]) -> None:
    starts = np.cumsum([0, *steps]).astype(np.int32)
    codes = pack_starts(starts)
    assert codes.dtype == np.uint8
    assert codes.nbytes == -(-(len(starts) + int(starts[-1])) // 8)
    assert np.array_equal(unpack_starts(codes, len(starts)), starts)
