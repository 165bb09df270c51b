"""Codecs on any record that hypothesis can think of."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kdcache.codec import (
    Codebooks,
    Fp16LogProb,
    HypothesesRecord,
    LatticeRecord,
    Log8LogProb,
    PosteriorRecord,
    Record,
    make_codec,
)
from kdcache.testing.codec_contract import same_classes, same_starts, values_of
from kdcache.testing.records import ragged_posteriors, records

CODECS = [
    ("lattice", {"name": "log8"}),
    ("lattice", {"name": "fp16"}),
    *(("lattice", {"name": "root", "steps": steps}) for steps in (2, 16, 100)),
    ("posterior", {"name": "log8", "floor": 8}),
    ("posterior", {"name": "fp16"}),
    ("vector", {"name": "fp16"}),
    ("vector", {"name": "int8"}),
    ("score", {"name": "fp32"}),
    ("hypotheses", {"name": "fp32"}),
]


@pytest.mark.parametrize(("kind", "named"), CODECS, ids=str)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_decoding_is_within_the_bound(
    kind: str, named: dict[str, object], data: st.DataObject
) -> None:
    codec, record = make_codec(kind, named), data.draw(records(kind))
    decoded = codec.decode(codec.encode(record))
    given_values, found = values_of(record), values_of(decoded)
    finite = np.isfinite(given_values)
    error = np.abs(given_values[finite].astype(np.float64) - found[finite])
    assert (error <= codec.error_bound(record)[finite]).all()
    assert np.isneginf(found[~finite]).all()
    if kind in ("lattice", "posterior"):
        assert np.allclose(np.exp(found.astype(np.float64)).sum(-1), 1, atol=1e-5)
    if isinstance(record, LatticeRecord) and isinstance(decoded, LatticeRecord):
        assert np.array_equal(record.ids_TSK, decoded.ids_TSK)
        assert same_starts(record, decoded)
    if isinstance(record, PosteriorRecord) and isinstance(decoded, PosteriorRecord):
        assert np.array_equal(record.ids_NK, decoded.ids_NK)
    if isinstance(record, HypothesesRecord) and isinstance(decoded, HypothesesRecord):
        assert np.array_equal(record.ids_L, decoded.ids_L)
        assert np.array_equal(record.lengths_H, decoded.lengths_H)
        assert [x.tolist() for x in record.sequences()] == [x.tolist() for x in decoded.sequences()]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(record=records("vector"), seed=st.integers(0, 9), count=st.integers(1, 3))
def test_sums_of_entries_are_within_what_is_said(record: Record, seed: int, count: int) -> None:
    values = values_of(record)
    rng = np.random.default_rng(seed)
    entries = rng.normal(size=(count, 256, values.shape[1])) * 1e3
    table = Codebooks.from_values(entries, np.zeros(values.shape[1])).to_dict()
    codec = make_codec("vector", {"name": "codebooks", "count": count, "table": table})
    found = values_of(codec.decode(codec.encode(record)))
    assert np.isfinite(found).all()
    assert (np.abs(values.astype(np.float64) - found) <= codec.error_bound(record)).all()


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.floats(1, 80), hnp.arrays(np.float32, 20, elements=st.floats(0, 1, width=32)))
def test_log8_steps_are_within_the_derived_bound(floor: float, parts: np.ndarray) -> None:
    """Before normalising: √(floor·|l|)/254 + floor/(4·254²)."""
    quantiser = Log8LogProb(floor)
    depth = parts * np.float32(floor)
    codes = quantiser.encode(-depth[:, None])[:, 0]
    stands_for = floor * (codes.astype(np.float64) / 254) ** 2
    bound = np.sqrt(floor * depth.astype(np.float64)) / 254 + floor / (4 * 254**2)
    assert (np.abs(stands_for - depth) <= bound + 2.0**-19 * (1 + depth)).all()


@settings(max_examples=200, deadline=None, derandomize=True)
@given(hnp.arrays(np.uint8, (4, 5), elements=st.integers(0, 254)))
def test_any_log8_codes_decode_to_distributions(codes: np.ndarray) -> None:
    for floor in (1, 16, 80):
        logp = Log8LogProb(floor).decode(codes)
        assert np.allclose(np.exp(logp.astype(np.float64)).sum(-1), 1, atol=1e-5)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.sampled_from([Fp16LogProb(), Log8LogProb(), Log8LogProb(40)]), st.data())
def test_probabilities_keep_their_order(
    quantiser: Fp16LogProb | Log8LogProb, data: st.DataObject
) -> None:
    record = data.draw(records("posterior"))
    assert isinstance(record, PosteriorRecord)
    order = np.argsort(-record.logp_NC, axis=-1, kind="stable")
    decoded = quantiser.decode(quantiser.encode(record.logp_NC))
    # −inf − −inf is no difference; ranks are compared on probabilities.
    ranked = np.take_along_axis(np.exp(decoded), order, axis=-1)
    assert (np.diff(ranked, axis=-1) <= 0).all()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(records("posterior"))
def test_a_second_round_trip_stays_within_the_bound_of_the_first(record: PosteriorRecord) -> None:
    """Codes may move to a neighbour, because decoding normalises; values stay close."""
    codec = make_codec("posterior", {"name": "log8"})
    first = codec.decode(codec.encode(record))
    second = codec.decode(codec.encode(first))
    finite = np.isfinite(values_of(first))
    error = np.abs(values_of(first)[finite] - values_of(second)[finite])
    assert (error <= codec.error_bound(first)[finite]).all()


RAGGED = [
    *({"name": "root", "bits": bits} for bits in (2, 3, 5, 7, 12)),
    {"name": "count", "samples": 7},
    {"name": "log8"},
    {"name": "fp16"},
]


@pytest.mark.parametrize("named", RAGGED, ids=str)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(record=ragged_posteriors())
def test_rows_of_any_length_are_within_the_bound(
    named: dict[str, object], record: PosteriorRecord
) -> None:
    codec = make_codec("posterior", named)
    decoded = codec.decode(codec.encode(record))
    assert isinstance(decoded, PosteriorRecord)
    assert decoded.logp_NC.shape == record.logp_NC.shape
    finite = np.isfinite(record.logp_NC)
    error = np.abs(record.logp_NC[finite].astype(np.float64) - decoded.logp_NC[finite])
    assert (error <= codec.error_bound(record)[finite]).all()
    assert np.isneginf(decoded.logp_NC[~finite]).all()
    assert np.allclose(np.exp(decoded.logp_NC.astype(np.float64)).sum(-1), 1, atol=1e-5)
    assert same_classes(record.ids_NK, decoded)
