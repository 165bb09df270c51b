"""Quantisers of log-probabilities: known values, edges, bounds, refusals."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kdcache.codec import Fp16LogProb, Log8LogProb
from kdcache.errors import ConfigError, TeacherOutputError
from kdcache.testing.records import normalise, random_logp

QUANTISERS = [Fp16LogProb(), Log8LogProb(), Log8LogProb(6), Log8LogProb(80)]
INF = np.inf


def test_log8_codes_of_known_values() -> None:
    logp = np.array([[0, -16 / 254**2, -4, -16, -17, -1e30, -INF]], np.float32)
    assert Log8LogProb(16).encode(logp).tolist() == [[0, 1, 127, 254, 254, 254, 255]]


def test_log8_decodes_known_codes() -> None:
    half = np.array([[127, 127, 255]], np.uint8)
    decoded = Log8LogProb(16).decode(half)
    assert np.allclose(decoded, [[np.log(0.5), np.log(0.5), -INF]])


def test_log8_steps_are_finest_near_certainty() -> None:
    steps = -np.diff(Log8LogProb()._table[:255])
    assert (np.diff(steps) > 0).all()
    assert steps[0] == pytest.approx(16 / 254**2)


def test_fp16_keeps_halves_exactly() -> None:
    logp = normalise(np.array([[0.0, 0.0, -INF]]))
    assert Fp16LogProb().encode(logp).dtype == np.float16
    assert np.allclose(Fp16LogProb().decode(Fp16LogProb().encode(logp)), logp, atol=1e-6)


def test_fp16_clips_where_half_precision_ends() -> None:
    codes = Fp16LogProb().encode(np.array([[0.0, -1e6, -INF]], np.float32))
    assert codes.tolist() == [[0.0, -65504.0, -INF]]


@pytest.mark.parametrize("quantiser", QUANTISERS, ids=repr)
@pytest.mark.parametrize("spread", [0.01, 1, 5, 50, 1000])
def test_the_bound_holds_and_is_no_idle_one(quantiser: Any, spread: float) -> None:
    logp = random_logp(np.random.default_rng(0), (500, 12), spread)
    error = np.abs(quantiser.decode(quantiser.encode(logp)) - logp)
    bound = quantiser.error_bound(logp)
    assert (error <= bound).all()
    assert (error / bound).max() > 0.3


@pytest.mark.parametrize("quantiser", QUANTISERS, ids=repr)
def test_the_bound_holds_for_rows_that_are_not_quite_normalised(quantiser: Any) -> None:
    logp = random_logp(np.random.default_rng(1), (100, 8)) - np.float32(0.01)
    error = np.abs(quantiser.decode(quantiser.encode(logp)) - logp)
    assert (error <= quantiser.error_bound(logp)).all()


def test_the_bound_before_normalising_is_the_one_in_the_docstring() -> None:
    quantiser, floor = Log8LogProb(16), 16.0
    depth = np.linspace(0, floor, 100_001, dtype=np.float32)
    codes = quantiser.encode(-depth[:, None])
    error = np.abs(quantiser._table[codes[:, 0]] + depth)
    step = np.sqrt(floor * depth) / 254 + floor / (4 * 254**2)
    assert (error <= step + 2e-5).all()
    assert (error / step)[1000:].max() > 0.99


@pytest.mark.parametrize("quantiser", QUANTISERS, ids=repr)
def test_rows_sum_to_one_and_zeros_stay(quantiser: Any) -> None:
    logp = random_logp(np.random.default_rng(2), (50, 4, 6), 30)
    logp[..., 2] = -INF
    decoded = quantiser.decode(quantiser.encode(normalise(logp)))
    assert decoded.dtype == np.float32
    assert np.isneginf(decoded[..., 2]).all()
    assert np.isfinite(np.delete(decoded, 2, axis=-1)).all()
    assert np.allclose(np.exp(decoded).sum(-1), 1, atol=1e-6)


@pytest.mark.parametrize("quantiser", QUANTISERS, ids=repr)
def test_a_lone_class_is_certain(quantiser: Any) -> None:
    logp = np.zeros((3, 1), np.float32)
    assert np.array_equal(quantiser.decode(quantiser.encode(logp)), logp)
    assert (quantiser.error_bound(logp) < 1e-2).all()


@pytest.mark.parametrize("quantiser", QUANTISERS, ids=repr)
def test_no_rows_are_no_trouble(quantiser: Any) -> None:
    logp = np.empty((0, 5), np.float32)
    assert quantiser.decode(quantiser.encode(logp)).shape == (0, 5)
    assert quantiser.error_bound(logp).shape == (0, 5)


@pytest.mark.parametrize("quantiser", QUANTISERS, ids=repr)
@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([np.nan, 0.0], "NaN"),
        ([-1.0, np.nan], "NaN"),
        ([0.5, -1.0], "at most 0, got 0.5"),
        ([INF, -1.0], "at most 0, got inf"),
        ([-INF, -INF], "no class above zero"),
        ([], "over classes"),
    ],
)
def test_what_is_no_distribution_is_refused(quantiser: Any, row: list[float], message: str) -> None:
    rows = np.array([row, row], np.float32)
    for method in (quantiser.encode, quantiser.error_bound):
        with pytest.raises(TeacherOutputError, match=message):
            method(rows)


def test_a_rounding_above_zero_is_zero() -> None:
    logp = np.array([[1e-4, -20.0]], np.float32)
    assert Log8LogProb().encode(logp).tolist() == [[0, 254]]
    assert Fp16LogProb().encode(logp)[0, 0] == 0


@pytest.mark.parametrize("floor", [0, 0.5, 81, -16, True, "16", None, float("nan")])
def test_floors_that_cannot_be_are_refused(floor: Any) -> None:
    with pytest.raises(ConfigError, match="floor from 1 to 80"):
        Log8LogProb(floor)


def test_float64_input_is_taken() -> None:
    logp = random_logp(np.random.default_rng(3), (4, 5))
    for quantiser in QUANTISERS:
        codes = quantiser.encode(logp.astype(np.float64))
        assert np.array_equal(codes, quantiser.encode(logp))


@pytest.mark.parametrize("quantiser", QUANTISERS, ids=str)
@pytest.mark.parametrize("shape", [(3, 700, 17), (2, 1, 9000), (5, 1), (0, 4), (2, 0, 4)])
def test_decoding_at_once_is_row_by_row(quantiser: Any, shape: tuple[int, ...]) -> None:
    codes = quantiser.encode(random_logp(np.random.default_rng(3), shape))
    whole = quantiser.decode(codes)
    rows = [quantiser.decode(row) for row in codes.reshape(math.prod(shape[:-1]), shape[-1])]
    assert whole.shape == shape
    assert whole.tobytes() == b"".join(row.tobytes() for row in rows)


@given(
    hnp.arrays(
        np.uint8,
        hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=9),
        elements=st.sampled_from([0, 1, 7, 128, 254, 255]),
    )
)
def test_log8_is_a_table_and_a_sum(codes: np.ndarray) -> None:
    """Pairs of codes that are looked up at once give what each gives by itself, to the bit."""
    table = (-16.0 * (np.arange(256) / 254) ** 2).astype(np.float32)
    table[255] = -np.inf
    rows = codes.reshape(math.prod(codes.shape[:-1]), codes.shape[-1])
    total = np.einsum("rc->r", np.exp(table)[rows])
    expected = table[rows] - np.log(np.maximum(total, np.float32(1e-45)))[:, None]
    found = Log8LogProb().decode(codes)
    assert found.shape == codes.shape
    assert found.tobytes() == expected.tobytes()


def test_log8_of_rows_from_anywhere() -> None:
    """Every other row, at an odd place, into memory that is not in step with pairs."""
    codes = np.random.default_rng(0).integers(0, 256, 2 * 9 * 5 + 1).astype(np.uint8)
    rows = codes[1:].reshape(9, 10)[::2, :5]
    out = np.empty(rows.size + 1, np.float32)[1:].reshape(rows.shape)
    quantiser = Log8LogProb()
    assert quantiser.decode(rows, out).tobytes() == quantiser.decode(rows.copy()).tobytes()


@pytest.mark.parametrize("quantiser", QUANTISERS, ids=str)
def test_decoding_into_memory_that_was_used(quantiser: Any) -> None:
    codes = quantiser.encode(random_logp(np.random.default_rng(4), (6, 5, 4)))
    out = np.full(codes.shape, np.nan, np.float32)
    assert quantiser.decode(codes, out) is out
    assert out.tobytes() == quantiser.decode(codes).tobytes()
