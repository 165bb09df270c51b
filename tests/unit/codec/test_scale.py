"""Scales of probabilities: order, zero, and the bounds that they state."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kdcache.codec import CountScale, RootScale, Scale
from kdcache.errors import ConfigError

SCALES = [RootScale(2), RootScale(5), RootScale(7), RootScale(12), CountScale(1), CountScale(50)]
DEPTHS = hnp.arrays(np.float64, 30, elements=st.floats(0, 80))


@pytest.mark.parametrize("scale", SCALES, ids=str)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(depths=DEPTHS)
def test_a_code_stands_for_a_probability_in_the_interval(scale: Scale, depths: np.ndarray) -> None:
    logp = -np.sort(depths)
    codes = scale.codes(logp)
    low, high = scale.interval(logp)
    found = scale.probability[codes]
    assert (codes > 0).all()
    assert (np.diff(codes) <= 0).all()
    assert (low * (1 - 1e-12) <= found).all()
    assert (found <= high * (1 + 1e-12)).all()
    assert (low <= np.exp(logp)).all()


@pytest.mark.parametrize("bits", [2, 6, 12])
def test_roots_are_off_by_half_a_step_and_a_third_at_most(bits: int) -> None:
    scale = RootScale(bits)
    p = np.geomspace(4.0 * scale.probability[1], 1.0, 20_001)
    error = np.abs(np.sqrt(scale.probability[scale.codes(np.log(p))]) - np.sqrt(p))
    assert (error <= 0.5 / 2**bits * (1 + 1e-9)).all()
    assert (error <= np.sqrt(p) / 3 * (1 + 1e-9)).all()
    assert error.max() > 0.49 / 2**bits
    assert (error / np.sqrt(p)).max() > 0.33


def test_the_loss_of_a_class_is_that_of_the_derivation() -> None:
    """2⁻²ᵇ/6 nats, whatever its probability."""
    scale = RootScale(6)
    for root in (0.2, 0.6):
        p = (root + np.linspace(0, 2.0**-6, 1000)) ** 2
        found = scale.probability[scale.codes(np.log(p))]
        loss = (p * np.log(p / found) + found - p).mean()
        assert loss == pytest.approx(2.0**-12 / 6, rel=0.02)


def test_zero_has_a_code_of_its_own() -> None:
    for scale in SCALES:
        codes = scale.codes(np.array([-1e4, -50.0, 0.0]))
        assert codes.min() == 1
        assert scale.probability[0] == 0
        assert (np.diff(scale.probability) > 0).all()
        assert scale.probability[codes[-1]] == scale.probability[-1] == 1


def test_counts_are_exact() -> None:
    counts = np.arange(1, 51)
    assert CountScale(50).codes(np.log(counts / 50)).tolist() == counts.tolist()


@pytest.mark.parametrize(
    ("make", "given_value"),
    [(RootScale, 1), (RootScale, 13), (RootScale, True), (CountScale, 0), (CountScale, 4097)],
)
def test_out_of_range(make: type, given_value: object) -> None:
    with pytest.raises(ConfigError, match="to be an integer from"):
        make(given_value)
