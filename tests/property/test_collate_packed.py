"""Decoding a batch at once gives, bit for bit, what decoding one by one and padding gives."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdcache.codec import PosteriorRecord, TailModel, make_codec
from kdcache.codec.records import LatticeRecord
from kdcache.stream.collate import collate_records
from kdcache.stream.packed import collate_packed
from kdcache.testing.records import ragged_posteriors, records

CODECS = [
    ("lattice", {"name": "log8"}),
    ("lattice", {"name": "fp16"}),
    ("lattice", {"name": "root"}),
    ("posterior", {"name": "log8"}),
    ("posterior", {"name": "fp16"}),
    ("vector", {"name": "int8"}),
    ("vector", {"name": "fp16"}),
    ("score", {"name": "fp32"}),
    ("hypotheses", {"name": "fp32"}),
]


def used(shape: tuple[int, ...], dtype: Any, /) -> np.ndarray:
    """Memory that holds what was there before, as of a batch that is gone."""
    array = np.empty(shape, dtype)
    array.reshape(-1).view(np.uint8).fill(0xA5)
    return array


def assert_same(kind: str, settings: dict[str, object], sample: list[object]) -> None:
    codec = make_codec(kind, settings)
    parts = [codec.encode(record) for record in sample]  # type: ignore[arg-type]
    expected = collate_records([codec.decode(part) for part in parts])
    found = collate_packed(codec, parts, used)
    assert type(found) is type(expected)
    for item in fields(expected):
        one, other = getattr(expected, item.name), getattr(found, item.name)
        if isinstance(one, torch.Tensor):
            assert one.dtype == other.dtype, item.name
            assert torch.equal(one, other), item.name
        else:
            assert one is other, item.name


@pytest.mark.parametrize(("kind", "settings"), CODECS)
@given(data=st.data())
def test_at_once_is_one_by_one(kind: str, settings: dict[str, object], data: st.DataObject) -> None:
    sample = data.draw(st.lists(records(kind), min_size=1, max_size=4))
    if kind == "vector":  # all of one cache have one width
        sample = [r for r in sample if r.values_TD.shape[1] == sample[0].values_TD.shape[1]]
    if kind == "lattice":
        sample = [r for r in sample if r.ids_TSK.shape[2] == sample[0].ids_TSK.shape[2]]
    assert_same(kind, settings, sample)


@pytest.mark.parametrize("name", ["log8", "root", "count"])
@given(sample=st.lists(ragged_posteriors(), min_size=1, max_size=3))
def test_rows_that_keep_fewer(name: str, sample: list[PosteriorRecord]) -> None:
    assert_same("posterior", {"name": name}, list(sample))


@given(sample=st.lists(ragged_posteriors(), min_size=1, max_size=3))
def test_rows_with_a_model_of_the_rest(sample: list[PosteriorRecord]) -> None:
    tail = TailModel.from_weights(np.ones((1, 300)), np.zeros(300, np.int64), "prior")
    assert_same("posterior", {"name": "root", "tail": tail.to_dict()}, list(sample))


def test_bands_beside_whole_lattices() -> None:
    rng = np.random.default_rng(1)

    def lattice(frames: int, width: int, starts: list[int] | None) -> LatticeRecord:
        logp = np.log(rng.dirichlet([1] * 4, (frames, width))).astype(np.float32)
        ids = rng.integers(0, 9, (frames, width, 1)).astype(np.int32)
        return LatticeRecord(logp, ids, None if starts is None else np.array(starts, np.int32))

    sample = [lattice(3, 4, None), lattice(4, 2, [0, 1, 1, 2]), lattice(1, 1, None)]
    assert_same("lattice", {"name": "log8"}, list(sample))
    assert_same("lattice", {"name": "log8"}, [sample[0], sample[2]])


@pytest.mark.parametrize(("kind", "settings"), CODECS)
@given(data=st.data())
def test_utterances_of_one_shape(
    kind: str, settings: dict[str, object], data: st.DataObject
) -> None:
    assert_same(kind, settings, [data.draw(records(kind))] * data.draw(st.integers(1, 3)))
