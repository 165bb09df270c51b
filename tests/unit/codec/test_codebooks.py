"""Sums of entries: how near they come, and what a table must be."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcache.codec import Codebooks, VectorRecord, make_codec
from kdcache.codec.codebooks import ENTRIES
from kdcache.errors import ConfigError, TeacherOutputError


def books(count: int, width: int, seed: int = 0, real: int = ENTRIES) -> Codebooks:
    """Random entries; those from ``real`` on lie far from everything."""
    rng = np.random.default_rng(seed)
    values_QED = rng.normal(size=(count, ENTRIES, width)) / np.arange(1, count + 1)[:, None, None]
    values_QED[:, real:] += 100
    return Codebooks.from_values(values_QED, rng.normal(size=width))


def squared(values_TD: np.ndarray, decoded_TD: np.ndarray) -> np.ndarray:
    errors: np.ndarray = np.square(values_TD.astype(np.float64) - decoded_TD).sum(-1)
    return errors


def test_one_codebook_gives_the_nearest_entry() -> None:
    one = books(1, 5)
    values = np.random.default_rng(1).normal(size=(300, 5)).astype(np.float32)
    every = one.values[0] + one.center_D
    nearest = np.square(values[:, None] - every).sum(-1).argmin(-1)
    assert np.array_equal(one.assign(values)[:, 0], nearest)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_between_the_best_pair_and_one_after_the_other(seed: int) -> None:
    """What is found is no better than the best of all pairs, and no worse than to choose one
    codebook after the other."""
    two = books(2, 3, seed, real=6)
    values = np.random.default_rng(seed).normal(size=(9, 3)).astype(np.float32)
    codes = two.assign(values)
    found = squared(values, two.sums(codes))
    pairs = np.array(list(product(range(6), repeat=2)), np.uint8)
    every = np.stack([squared(values, two.sums(np.tile(pair, (9, 1)))) for pair in pairs])
    assert (found >= every.min(0) - 1e-4).all()
    greedy = _one_after_the_other(two, values)
    assert (found <= squared(values, two.sums(greedy)) + 1e-4).all()


def _one_after_the_other(books: Codebooks, values_TD: np.ndarray) -> np.ndarray:
    left_TD, codes = values_TD - books.center_D, []
    for book_ED in books.values:
        codes.append(np.square(left_TD[:, None] - book_ED).sum(-1).argmin(-1))
        left_TD = left_TD - book_ED[codes[-1]]
    return np.stack(codes, axis=1).astype(np.uint8)


def test_sums_of_entries_are_found_again() -> None:
    many = books(4, 64)
    codes = np.random.default_rng(2).integers(0, ENTRIES, size=(1100, 4)).astype(np.uint8)
    assert np.array_equal(many.assign(many.sums(codes)), codes)


def test_company_changes_nothing() -> None:
    many = books(3, 8)
    values = np.random.default_rng(3).normal(size=(700, 8)).astype(np.float32)
    alone = np.concatenate([many.assign(values[t : t + 1]) for t in range(0, 700, 50)])
    assert np.array_equal(many.assign(values)[::50], alone)


def test_equally_near_entries_take_the_first() -> None:
    same = Codebooks.from_values(np.ones((2, ENTRIES, 3)), np.zeros(3))
    assert not same.assign(np.ones((4, 3), np.float32)).any()


@pytest.mark.parametrize("value", [3e38, -3e38, 0.0, 1e-45])
def test_values_beyond_measure_have_some_entry(value: float) -> None:
    some = books(2, 4)
    assert some.assign(np.full((3, 4), value, np.float32)).shape == (3, 2)


def test_a_table_survives_json() -> None:
    given = books(3, 5)
    again = Codebooks.from_dict(given.to_dict())
    assert np.array_equal(given.entries_QED, again.entries_QED)
    assert np.array_equal(given.values, again.values)
    assert np.array_equal(given.center_D, again.center_D)
    assert (again.count, again.width) == (3, 5)


def test_a_channel_that_is_always_zero() -> None:
    values = np.random.default_rng(0).normal(size=(1, ENTRIES, 3))
    values[..., 1] = 0
    assert not Codebooks.from_values(values, np.zeros(3)).values[..., 1].any()


@pytest.mark.parametrize(
    "change",
    [
        {"entries": "no base 64!"}, {"entries": ""}, {"scale": None}, {"count": 0}, {"count": 33},
        {"width": 0}, {"kind": "product"}, {"center": "AAAAAA=="},
    ],
)  # fmt: skip
def test_what_is_no_table(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="holds no codebooks"):
        Codebooks.from_dict({**books(2, 3).to_dict(), **change})
    with pytest.raises(ConfigError, match="holds no codebooks"):
        Codebooks.from_dict({})


def test_numbers_that_are_none() -> None:
    spoilt = books(2, 3)
    spoilt.scale_QD[0, 0] = np.nan
    with pytest.raises(ConfigError, match="hold NaN"):
        Codebooks.from_dict(spoilt.to_dict())


def test_the_codec_s_settings() -> None:
    table = books(2, 3).to_dict()
    codec = make_codec("vector", {"name": "codebooks", "count": 2, "table": table})
    assert codec.to_dict() == {"name": "codebooks", "count": 2, "table": table}
    assert make_codec("vector", {"name": "codebooks"}).to_dict() == {
        "name": "codebooks", "count": 8,
    }  # fmt: skip
    for bad in (0, 33, "8", True, 2.0):
        with pytest.raises(ConfigError, match="expected an integer from 1 to 32"):
            make_codec("vector", {"name": "codebooks", "count": bad})
    with pytest.raises(ConfigError, match="count is 3, but the table holds 2 codebooks"):
        make_codec("vector", {"name": "codebooks", "count": 3, "table": table})
    with pytest.raises(ConfigError, match="table is 'x'; expected codebooks"):
        make_codec("vector", {"name": "codebooks", "table": "x"})


def test_without_codebooks_nothing_is_packed() -> None:
    record = VectorRecord(np.zeros((2, 3), np.float32))
    with pytest.raises(ConfigError, match="are to be trained on a teacher's vectors first"):
        make_codec("vector", {"name": "codebooks"}).encode(record)


def test_vectors_of_another_width() -> None:
    table = books(2, 3).to_dict()
    codec = make_codec("vector", {"name": "codebooks", "count": 2, "table": table})
    with pytest.raises(TeacherOutputError, match="of the 3 channels .* trained on, got 4"):
        codec.encode(VectorRecord(np.zeros((2, 4), np.float32)))


def test_decoding_gives_the_entries_too() -> None:
    given = books(2, 3)
    codec = make_codec("vector", {"name": "codebooks", "count": 2, "table": given.to_dict()})
    columns = codec.encode(VectorRecord(np.random.default_rng(0).normal(size=(5, 3))))
    record = codec.decode(columns)
    assert isinstance(record, VectorRecord)
    assert record.codes_TQ is not None
    assert np.array_equal(record.codes_TQ, columns["codes"])
    assert np.array_equal(record.values_TD, given.sums(columns["codes"]))
