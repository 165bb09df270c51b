"""The ragged codec: what is stored, what is implied, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given as given_any
from hypothesis import strategies as st

from kdcache.codec import PosteriorRecord, make_codec
from kdcache.codec.ragged import _order
from kdcache.codec.streams import HEADER
from kdcache.errors import ConfigError, DamagedCacheError, TeacherOutputError
from kdcache.testing.codec_contract import same_classes
from kdcache.testing.records import normalise

RNG = np.random.default_rng


def record(rows: list[list[float]], rest: list[float], ids: list[list[int]]) -> PosteriorRecord:
    """Probabilities and ids, row by row, padded with absent slots."""
    width = max(map(len, rows), default=0)
    p = np.zeros((len(rows), width + 1))
    padded = np.full((len(rows), width), -1, np.int32)
    for n, (row, names) in enumerate(zip(rows, ids, strict=True)):
        p[n, : len(row)], p[n, -1], padded[n, : len(names)] = row, rest[n], names
    with np.errstate(divide="ignore"):
        return PosteriorRecord(np.log(p).astype(np.float32), padded)


def round_trip(given: PosteriorRecord, **settings: Any) -> PosteriorRecord:
    codec = make_codec("posterior", {"name": "root", **settings})
    decoded = codec.decode(codec.encode(given))
    assert isinstance(decoded, PosteriorRecord)
    assert decoded.logp_NC.dtype == np.float32
    assert decoded.ids_NK.dtype == np.int32
    assert same_classes(given.ids_NK, decoded)
    finite = np.isfinite(given.logp_NC)
    assert np.array_equal(finite, np.isfinite(decoded.logp_NC))
    error = np.abs(decoded.logp_NC[finite] - given.logp_NC[finite])
    assert (error <= codec.error_bound(given)[finite]).all()
    return decoded


def test_rows_of_every_length() -> None:
    given = record(
        [[0.98], [0.5, 0.3, 0.1], [], [0.4, 0.35]],
        [0.02, 0.1, 1.0, 0.25],
        [[0], [7, 2, 499], [], [499, 0]],
    )
    decoded = round_trip(given, bits=8)
    assert decoded.ids_NK.tolist() == [[0, -1, -1], [7, 2, 499], [-1] * 3, [499, 0, -1]]
    np.testing.assert_allclose(np.exp(decoded.logp_NC), np.exp(given.logp_NC), atol=6e-3)


@pytest.mark.parametrize("bits", [2, 7, 12])
@pytest.mark.parametrize("rest", [0.0, 1e-7, 0.02, 0.3])
def test_the_likeliest_class_is_implied_by_the_others(bits: int, rest: float) -> None:
    given = record([[1 - rest]] * 40, [rest] * 40, [[3]] * 40)
    decoded = round_trip(given, bits=bits)
    np.testing.assert_allclose(np.exp(decoded.logp_NC).sum(-1), 1, atol=1e-6)
    codec = make_codec("posterior", {"name": "root", "bits": bits})
    assert len(codec.encode(given)["packed"]) == HEADER.itemsize, "40 equal rows cost nothing"


def test_a_likeliest_class_below_one_half_has_a_code() -> None:
    rest_heavy = record([[0.001], [0.3, 0.3, 0.3]], [0.999, 0.1], [[5], [1, 2, 3]])
    decoded = round_trip(rest_heavy, bits=7)
    assert np.exp(decoded.logp_NC[0, 0]) == pytest.approx(0.001, rel=0.1)
    codec = make_codec("posterior", {"name": "root"})
    head = codec.encode(rest_heavy)["packed"][: HEADER.itemsize].view(HEADER)[0]
    assert int(head["leads"]) == 2


@pytest.mark.parametrize("vocab", [2, 500, 65_534])
def test_large_vocabularies_uniform_and_one_hot(vocab: int) -> None:
    kept = min(vocab, 300)
    uniform = np.full((3, kept), -np.log(vocab), np.float32)
    rest = np.float32(np.log1p(-kept / vocab) if kept < vocab else -np.inf)
    logp = np.concatenate([uniform, np.full((3, 1), rest)], axis=1)
    ids = np.stack([np.sort(RNG(n).permutation(vocab)[:kept]) for n in range(3)])
    assert np.array_equal(round_trip(PosteriorRecord(logp, ids), bits=7).ids_NK, ids)
    one_hot = np.array([[0.0, -np.inf]], np.float32)
    decoded = round_trip(PosteriorRecord(one_hot, np.array([[vocab - 1]])))
    assert decoded.logp_NC.tolist() == [[0.0, -np.inf]]


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (1, 0), (5, 0)])
def test_nothing_kept(shape: tuple[int, int]) -> None:
    rows, kept = shape
    logp = np.zeros((rows, kept + 1), np.float32)
    codec = make_codec("posterior", {"name": "root"})
    decoded = codec.decode(codec.encode(PosteriorRecord(logp, np.zeros(shape, np.int32))))
    assert isinstance(decoded, PosteriorRecord)
    assert decoded.logp_NC.tolist() == [[0.0]] * rows
    assert decoded.ids_NK.shape == (rows, 0)


def test_classes_that_become_equally_likely_are_in_order_of_id() -> None:
    given = record([[0.6, 0.1000, 0.0999, 0.0998]], [0.1003], [[9, 5, 3, 4]])
    decoded = round_trip(given, bits=4)
    assert decoded.ids_NK.tolist() == [[9, 3, 4, 5]]


def test_a_blank_dominated_utterance_takes_less_than_two_bytes_a_row() -> None:
    rng = RNG(0)
    rest = np.exp(rng.uniform(-11, -5, 400))
    label = rng.random(400) < 0.15
    ids = np.where(label, rng.integers(1, 500, 400), 0)[:, None]
    logp = np.log(np.stack([1 - rest, rest], axis=1)).astype(np.float32)
    packed = make_codec("posterior", {"name": "root", "bits": 6}).encode(
        PosteriorRecord(logp, ids.astype(np.int32))
    )["packed"]
    assert len(packed) < 400 * 1.5


def test_counts_of_draws_are_exact() -> None:
    counts = np.array([[48, 2, 0], [20, 16, 14], [50, 0, 0]])
    given = record((counts / 50).tolist(), [0.0] * 3, [[4, 8, -1], [1, 2, 3], [400, -1, -1]])
    given.ids_NK[counts == 0] = -1
    codec = make_codec("posterior", {"name": "count", "samples": 50})
    decoded = codec.decode(codec.encode(given))
    assert isinstance(decoded, PosteriorRecord)
    np.testing.assert_allclose(np.exp(decoded.logp_NC[:, :-1]) * 50, counts, atol=1e-4)
    assert np.isneginf(decoded.logp_NC[:, -1]).all()
    assert np.array_equal(decoded.ids_NK, given.ids_NK)


def test_what_is_no_ragged_record_is_refused() -> None:
    codec = make_codec("posterior", {"name": "root"})
    fine = record([[0.6, 0.3]], [0.1], [[1, 2]])
    for ids, message in (([[-1, 2]], "an id for every class"), ([[1, -2]], "an id for every")):
        with pytest.raises(TeacherOutputError, match=message):
            codec.encode(replace(fine, ids_NK=np.array(ids)))
    with pytest.raises(TeacherOutputError, match="decreasing probability"):
        codec.encode(record([[0.3, 0.6]], [0.1], [[1, 2]]))
    with pytest.raises(TeacherOutputError, match="a class twice"):
        codec.encode(record([[0.6, 0.2, 0.1]], [0.1], [[1, 2, 2]]))
    with pytest.raises(ConfigError, match="16 bits"):
        codec.encode(replace(fine, ids_NK=np.array([[1, 65_534]])))


def test_bytes_that_are_no_such_column_are_damage() -> None:
    codec = make_codec("posterior", {"name": "root"})
    logp = normalise(-np.sort(-RNG(1).normal(size=(20, 6)) * 3))
    ids = np.tile(np.arange(5), (20, 1))
    packed = codec.encode(PosteriorRecord(logp, ids))["packed"]
    head = packed[: HEADER.itemsize].view(HEADER)[0]
    for name, value in (("rows", 19), ("others", 70), ("leads", 1), ("prefix_bytes", 3)):
        damaged = packed.copy()
        assert head[name] != value
        damaged[: HEADER.itemsize].view(HEADER)[0][name] = value
        with pytest.raises(DamagedCacheError):
            codec.decode({"packed": damaged})
    damaged = packed.copy()
    damaged[: HEADER.itemsize].view(HEADER)[0]["lowest"][4] = 60_000
    with pytest.raises(DamagedCacheError, match="off the scale"):
        codec.decode({"packed": damaged})
    with pytest.raises(DamagedCacheError, match="5 bytes, expected at least"):
        codec.decode({"packed": packed[:5]})


@given_any(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 65_535)), max_size=80))
def test_the_order_is_by_row_then_key_and_stable(pairs: list[tuple[int, int]]) -> None:
    rows = np.array(sorted(row for row, _ in pairs), np.int64)
    keys = np.array([key for _, key in pairs], np.int64)
    assert np.array_equal(_order(rows, keys), np.lexsort((keys, rows)))


def test_more_rows_than_16_bits_hold() -> None:
    rows = 70_000
    ids = np.tile(np.array([[9, 4, 2]], np.int32), (rows, 1))
    ids[::3, 1:] = [2, 4]
    p = np.tile(np.array([[0.6, 0.25, 0.1, 0.05]]), (rows, 1))
    decoded = round_trip(PosteriorRecord(np.log(p).astype(np.float32), ids))
    assert np.array_equal(decoded.ids_NK, ids)
