"""What every record codec must do. Subclass, say which codec, and run with pytest.

class TestMyCodec(CodecContract):
    record = "lattice"
    settings = {"name": "my_package.codecs:MyCodec", "bits": 6}
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest

from kdcache.codec import (
    HypothesesRecord,
    LatticeRecord,
    PosteriorRecord,
    ScoreRecord,
    VectorRecord,
    make_codec,
)
from kdcache.errors import KdcacheError
from kdcache.testing.records import random_band, random_record

if TYPE_CHECKING:
    from kdcache.codec import Record, RecordCodec


class CodecContract:
    """Tests of one codec.

    Attributes:
        record: the kind of record that it packs.
        settings: what makes it.
        seeds: of the random records that it is tried on.
    """

    record: ClassVar[str]
    settings: ClassVar[dict[str, Any]]
    seeds: ClassVar[range] = range(20)

    @pytest.fixture
    def codec(self) -> RecordCodec:
        """The codec under test."""
        return make_codec(self.record, self.settings)

    @pytest.fixture
    def samples(self) -> list[Record]:
        """Records to pack."""
        drawn = [random_record(np.random.default_rng(seed), self.record) for seed in self.seeds]
        if self.record == "lattice":
            drawn += [random_band(np.random.default_rng(seed)) for seed in self.seeds]
        return drawn

    def test_arrays_are_as_columns_says(self, codec: RecordCodec, samples: list[Record]) -> None:
        """Names, dtypes, axes, and memory that can be written as it is."""
        for sample in samples:
            arrays = codec.encode(sample)
            required = {name for name, spec in codec.columns().items() if not spec.optional}
            assert required <= arrays.keys() <= codec.columns().keys()
            for name, array in arrays.items():
                spec = codec.columns()[name]
                assert array.dtype == np.dtype(spec.dtype)
                assert array.ndim == spec.ndim
                assert array.flags.c_contiguous

    def test_decoding_is_within_the_bound(self, codec: RecordCodec, samples: list[Record]) -> None:
        """Every element, and zero probability stays zero."""
        for sample in samples:
            given, decoded = values_of(sample), values_of(codec.decode(codec.encode(sample)))
            bound = codec.error_bound(sample)
            assert decoded.dtype == np.float32
            assert given.shape == decoded.shape == bound.shape
            assert np.array_equal(np.isneginf(given), np.isneginf(decoded))
            finite = np.isfinite(given)
            error = np.abs(given[finite] - decoded[finite])
            assert (error <= bound[finite]).all()

    def test_distributions_stay_normalised(self, codec: RecordCodec, samples: list[Record]) -> None:
        """Decoded rows sum to one; vectors and scores have nothing to sum."""
        for sample in samples:
            if isinstance(sample, LatticeRecord | PosteriorRecord):
                total = np.exp(values_of(codec.decode(codec.encode(sample)))).sum(-1)
                assert np.abs(total - 1).max(initial=0) < 1e-5

    def test_ids_are_exact(self, codec: RecordCodec, samples: list[Record]) -> None:
        """Class ids come back as they were, and so do the starts of a band's windows; of a
        posterior's classes, those that are decoded as equally likely may change places."""
        for sample in samples:
            decoded = codec.decode(codec.encode(sample))
            if isinstance(sample, LatticeRecord) and isinstance(decoded, LatticeRecord):
                assert np.array_equal(sample.ids_TSK, decoded.ids_TSK)
                assert same_starts(sample, decoded)
            if isinstance(sample, PosteriorRecord) and isinstance(decoded, PosteriorRecord):
                assert same_classes(sample.ids_NK, decoded)
            if isinstance(sample, HypothesesRecord) and isinstance(decoded, HypothesesRecord):
                assert np.array_equal(sample.ids_L, decoded.ids_L)
                assert np.array_equal(sample.lengths_H, decoded.lengths_H)

    def test_encoding_is_deterministic(self, codec: RecordCodec, samples: list[Record]) -> None:
        """Same record, same bytes; the record itself is left alone."""
        for sample in samples:
            before = values_of(sample).copy()
            first, second = codec.encode(sample), codec.encode(sample)
            assert {n: a.tobytes() for n, a in first.items()} == {
                n: a.tobytes() for n, a in second.items()
            }
            assert np.array_equal(before, values_of(sample), equal_nan=True)

    def test_decoding_leaves_the_stored_arrays_alone(
        self, codec: RecordCodec, samples: list[Record]
    ) -> None:
        """They may be views of a mapped file that cannot be written."""
        for sample in samples:
            arrays = codec.encode(sample)
            for array in arrays.values():
                array.setflags(write=False)
            assert type(codec.decode(arrays)) is type(sample)

    def test_settings_make_an_equal_codec(self, codec: RecordCodec, samples: list[Record]) -> None:
        """Through JSON, as in a cache's header."""
        again = make_codec(self.record, json.loads(json.dumps(codec.to_dict())))
        assert again.to_dict() == codec.to_dict()
        assert again.columns() == codec.columns()
        first, second = codec.encode(samples[0]), again.encode(samples[0])
        assert all(np.array_equal(first[name], second[name]) for name in first)

    def test_nan_is_refused(self, codec: RecordCodec, samples: list[Record]) -> None:
        """With an error of the tree, so that the utterance is recorded and the others go on."""
        sample = next(sample for sample in samples if values_of(sample).size)
        values = values_of(sample).copy()
        values.reshape(-1)[-1] = np.nan
        with pytest.raises(KdcacheError):
            codec.encode(with_values(sample, values))


def values_of(record: Record) -> np.ndarray:
    """The float array of a record."""
    if isinstance(record, LatticeRecord):
        return record.logp_TSC
    if isinstance(record, ScoreRecord):
        return record.score_1
    if isinstance(record, HypothesesRecord):
        return record.scores_H
    return record.logp_NC if isinstance(record, PosteriorRecord) else record.values_TD


def same_classes(ids_NK: np.ndarray, decoded: PosteriorRecord) -> bool:
    """Whether each slot holds the class that it held, or one that is as likely now."""
    order_NK = np.lexsort((ids_NK, -decoded.logp_NC[:, :-1]), axis=-1)
    other_NK = np.lexsort((decoded.ids_NK, -decoded.logp_NC[:, :-1]), axis=-1)
    return np.array_equal(
        np.take_along_axis(ids_NK, order_NK, -1), np.take_along_axis(decoded.ids_NK, other_NK, -1)
    )


def with_values(record: Record, values: np.ndarray) -> Record:
    """The record with another float array."""
    if isinstance(record, LatticeRecord):
        return LatticeRecord(values, record.ids_TSK, record.starts_T)
    if isinstance(record, PosteriorRecord):
        return PosteriorRecord(values, record.ids_NK)
    if isinstance(record, ScoreRecord):
        return ScoreRecord(values)
    if isinstance(record, HypothesesRecord):
        return HypothesesRecord(values, record.lengths_H, record.ids_L)
    return VectorRecord(values)


def same_starts(one: LatticeRecord, other: LatticeRecord) -> bool:
    """Whether two lattices are both whole, or bands of the same windows."""
    if one.starts_T is None or other.starts_T is None:
        return one.starts_T is other.starts_T
    return np.array_equal(one.starts_T, other.starts_T)
