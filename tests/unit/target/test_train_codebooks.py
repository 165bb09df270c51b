"""Codebooks that are trained on vectors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kdcache.codec import Codebooks, make_codec
from kdcache.errors import TeacherOutputError
from kdcache.target.codebooks import MOST_VECTORS, VectorSample, k_means, train_codebooks
from kdcache.target.vector import HiddenTarget
from kdcache.teacher.protocol import TeacherOutput


def vectors(count: int, width: int = 12, seed: int = 0) -> np.ndarray:
    """Vectors of a few directions, which have an offset in common."""
    rng = np.random.default_rng(seed)
    basis = np.random.default_rng(99).normal(size=(3, width))
    values: np.ndarray = rng.normal(size=(count, 3)) @ basis + 5
    return (values + 0.05 * rng.normal(size=(count, width))).astype(np.float32)


def left(books: Codebooks, values: np.ndarray) -> float:
    """Share of the variance that is not kept."""
    error = np.square(values - books.sums(books.assign(values))).sum()
    return float(error / np.square(values - values.mean(0)).sum())


def test_more_codebooks_leave_less_of_what_was_not_seen() -> None:
    seen, unseen = vectors(4000), vectors(1000, seed=1)
    shares = [left(train_codebooks(seen, count), unseen) for count in (1, 2, 4)]
    assert shares[0] < 0.1
    assert shares[1] < shares[0] / 3
    assert shares[2] < shares[1]


def test_moving_all_together_is_better_than_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = vectors(3000)
    together = left(train_codebooks(values, 3), values)
    monkeypatch.setattr("kdcache.target.codebooks._ROUNDS", 0)
    assert together < left(train_codebooks(values, 3), values)


def test_the_same_vectors_give_the_same_codebooks() -> None:
    values = vectors(600)
    assert train_codebooks(values, 2).to_dict() == train_codebooks(values, 2).to_dict()
    assert train_codebooks(values, 2).to_dict() != train_codebooks(values, 2, seed=1).to_dict()


@pytest.mark.parametrize("count", [1, 2, 100])
def test_fewer_vectors_than_entries_are_kept_whole(count: int) -> None:
    values = vectors(count)
    books = train_codebooks(values, 3)
    assert np.abs(values - books.sums(books.assign(values))).max() < 1e-3


def test_no_entry_is_wasted_where_there_are_many_vectors() -> None:
    values = np.repeat(vectors(300), 4, axis=0)
    _, codes = k_means(values, np.random.default_rng(0))
    assert len(np.unique(codes)) > 200


def test_a_sample_is_of_all_utterances_alike() -> None:
    sample = VectorSample(4)
    long, short = vectors(MOST_VECTORS), vectors(7, seed=1)
    sample.add("b", long)
    sample.add("a", short)
    found = sample.vectors()
    assert np.array_equal(found[:7], short)
    assert np.array_equal(found[7:], long[::4])


def test_the_order_of_hearing_is_no_matter() -> None:
    one, other = VectorSample(2), VectorSample(2)
    for name, place in (("a", 0), ("b", 1)):
        one.add(name, vectors(9, seed=place))
    for name, place in (("b", 1), ("a", 0)):
        other.add(name, vectors(9, seed=place))
    assert np.array_equal(one.vectors(), other.vectors())


def test_nothing_heard() -> None:
    with pytest.raises(TeacherOutputError, match="No vectors were heard"):
        VectorSample(3).vectors()


def test_the_target_measures_the_relative_error() -> None:
    values = vectors(50)
    codec = make_codec(
        "vector",
        {"name": "codebooks", "count": 1, "table": train_codebooks(values[:30], 1).to_dict()},
    )
    output = TeacherOutput(50, (), torch.from_numpy(values))
    reduced = HiddenTarget().reduce(output, codec)
    decoded = codec.decode(reduced.columns).values_TD  # type: ignore[union-attr]
    expected = np.square(values - decoded).sum() / np.square(values).sum()
    assert reduced.columns["codes"].shape == (50, 1)
    assert reduced.fidelity["error_relative"] == pytest.approx(expected, rel=1e-4)
    assert 0 < reduced.fidelity["error_relative"] < 0.1
