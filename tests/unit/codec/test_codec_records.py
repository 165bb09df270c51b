"""Codecs of whole records: columns, ids, shapes that do not fit, vectors and their scales."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest

from kdcache.codec import LatticeRecord, PosteriorRecord, VectorRecord, check_vocabulary, make_codec
from kdcache.codec.ids import pack_ids, unpack_ids
from kdcache.codec.starts import pack_starts, unpack_starts
from kdcache.errors import ConfigError, TeacherOutputError
from kdcache.testing.records import (
    random_band,
    random_lattice,
    random_logp,
    random_posterior,
    random_vector,
)

RNG = np.random.default_rng
BEFORE_BANDS = "6f4851977f94e425cb6cf8c1504c0fcaa09c807101451da91fd1b3d9eaad970b"
"""Of what kdcache 0.1.0 made of the same record."""


def test_a_lattice_without_kept_classes_has_no_ids() -> None:
    codec = make_codec("lattice", {"name": "log8"})
    record = random_lattice(RNG(0), 5, 3, kept=0)
    arrays = codec.encode(record)
    assert arrays.keys() == {"logp"}
    assert codec.columns()["ids"].optional
    decoded = codec.decode(arrays)
    assert isinstance(decoded, LatticeRecord)
    assert decoded.ids_TSK.shape == (5, 4, 0)
    assert decoded.ids_TSK.dtype == np.int32


def test_a_lattice_is_stored_in_a_byte_a_class_and_two_an_id() -> None:
    codec = make_codec("lattice", {"name": "log8"})
    arrays = codec.encode(random_lattice(RNG(0), 7, 4, kept=2))
    assert arrays["logp"].nbytes == 7 * 5 * 5
    assert arrays["ids"].nbytes == 7 * 5 * 2 * 2


def test_no_label_in_the_last_column_stays_so() -> None:
    for name in ("fp16", "log8"):
        codec = make_codec("lattice", {"name": name})
        decoded = codec.decode(codec.encode(random_lattice(RNG(1), 6, 3, kept=1)))
        assert isinstance(decoded, LatticeRecord)
        assert np.isneginf(decoded.logp_TSC[:, 3, 1]).all()
        assert np.isfinite(decoded.logp_TSC[:, :3, 1]).all()


def test_a_whole_lattice_has_no_starts() -> None:
    codec = make_codec("lattice", {"name": "log8"})
    whole, band = random_lattice(RNG(0), 5, 3, kept=1), random_band(RNG(0), kept=1)
    assert codec.columns()["starts"].optional
    assert codec.encode(whole).keys() == {"logp", "ids"}
    assert codec.encode(band).keys() == {"logp", "ids", "starts"}
    decoded = codec.decode(codec.encode(whole))
    assert isinstance(decoded, LatticeRecord)
    assert decoded.starts_T is None


def test_whole_lattices_are_packed_as_before_there_were_bands() -> None:
    """To the byte: caches of then and now are one."""
    arrays = make_codec("lattice", {"name": "log8"}).encode(random_lattice(RNG(7), 4, 2, kept=1))
    digest = hashlib.sha256(b"".join(arrays[name].tobytes() for name in sorted(arrays)))
    assert digest.hexdigest() == BEFORE_BANDS


def test_a_band_knows_its_labels() -> None:
    logp, ids = random_logp(RNG(0), (3, 4, 3)), np.zeros((3, 4, 0), np.int32)
    assert LatticeRecord(logp, ids).labels == 3
    assert LatticeRecord(logp, ids, np.array([0, 2, 5], np.int32)).labels == 8
    assert random_lattice(RNG(0), 5, 0, kept=1).labels == 0


def test_starts_are_a_bit_a_frame_and_a_bit_a_column() -> None:
    # Windows at 0, 2, 2 and 5: 0, 110, 0, 1110.
    codes = pack_starts(np.array([0, 2, 2, 5]))
    assert [f"{code:08b}" for code in codes] == ["01100111", "00000000"]
    assert unpack_starts(codes, 4).tolist() == [0, 2, 2, 5]
    assert unpack_starts(codes, 4).dtype == np.int32
    assert pack_starts(np.zeros(0, np.int32)).size == 0
    assert unpack_starts(np.zeros(0, np.uint8), 0).size == 0


@pytest.mark.parametrize("starts", [[1, 2], [0, 2, 1], [-1, 0], [[0]]])
def test_starts_that_cannot_be_are_refused(starts: Any) -> None:
    with pytest.raises(TeacherOutputError, match="begin with 0 and do not decrease"):
        pack_starts(np.array(starts))


@pytest.mark.parametrize("starts", [[0, 1], [0, 1, 1, 2], [0, 1, 4], [0, 1, 0], [1, 1, 1]])
def test_windows_that_are_no_band_are_refused(starts: list[int]) -> None:
    logp, ids = random_logp(RNG(0), (3, 3, 3)), np.zeros((3, 3, 0), np.int32)
    record = LatticeRecord(logp, ids, np.array(starts, np.int32))
    codec = make_codec("lattice", {"name": "fp16"})
    for method in (codec.encode, codec.error_bound):
        with pytest.raises(TeacherOutputError, match="expected 3 starts of windows of 3 columns"):
            method(record)


def test_absent_ids_come_back_as_minus_one() -> None:
    ids = np.array([[-1, 0, 65_533]])
    assert pack_ids(ids).tolist() == [[65_535, 0, 65_533]]
    assert pack_ids(ids).dtype == np.uint16
    assert unpack_ids(pack_ids(ids)).tolist() == ids.tolist()


def test_ids_are_implied_only_where_every_class_has_its_slot() -> None:
    codec = make_codec("posterior", {"name": "log8"})
    ids = np.tile(np.arange(3, dtype=np.int32), (4, 1))
    logp = random_logp(RNG(0), (4, 4))
    assert codec.encode(PosteriorRecord(logp, ids)).keys() == {"logp", "ids"}
    logp[:, -1] = -np.inf
    dense = PosteriorRecord(logp, ids)
    assert codec.encode(dense).keys() == {"logp"}
    decoded = codec.decode(codec.encode(dense))
    assert isinstance(decoded, PosteriorRecord)
    assert np.array_equal(decoded.ids_NK, ids)
    assert codec.encode(PosteriorRecord(logp, ids[:, ::-1])).keys() == {"logp", "ids"}
    assert codec.columns()["ids"].optional


@pytest.mark.parametrize("largest", [65_534, 65_535, 10**6])
def test_ids_beyond_16_bits_are_a_sentence(largest: int) -> None:
    with pytest.raises(ConfigError, match="16 bits"):
        pack_ids(np.array([largest]))


def test_ids_below_minus_one_are_the_teachers_fault() -> None:
    with pytest.raises(TeacherOutputError, match="got -2"):
        pack_ids(np.array([-2]))


def test_the_vocabulary_that_fits() -> None:
    check_vocabulary(65_534)
    with pytest.raises(ConfigError, match="65,535 classes exceeds the 65,534"):
        check_vocabulary(65_535)


def lattice(logp: tuple[int, ...], ids: tuple[int, ...]) -> LatticeRecord:
    return LatticeRecord(random_logp(RNG(0), logp), np.zeros(ids, np.int32))


def posterior(logp: tuple[int, ...], ids: tuple[int, ...]) -> PosteriorRecord:
    return PosteriorRecord(random_logp(RNG(0), logp), np.zeros(ids, np.int32))


@pytest.mark.parametrize(
    ("kind", "record"),
    [
        ("lattice", lattice((2, 3, 4), (2, 3, 2))),
        ("lattice", lattice((2, 3, 4), (2, 2, 1))),
        ("lattice", lattice((2, 3), (2, 0))),
        ("lattice", lattice((2, 3, 2), (2, 3, 0))),
        ("posterior", posterior((4, 3), (4, 3))),
        ("posterior", posterior((4, 3), (3, 2))),
        ("posterior", posterior((4, 3, 1), (4, 3, 0))),
        ("vector", VectorRecord(np.zeros(3, np.float32))),
        ("vector", VectorRecord(np.zeros((1, 2, 3), np.float32))),
    ],
)
def test_shapes_that_do_not_fit_are_the_teachers_fault(kind: str, record: Any) -> None:
    for name in ("fp16", {"vector": "int8"}.get(kind, "log8")):
        codec = make_codec(kind, {"name": name})
        for method in (codec.encode, codec.error_bound):
            with pytest.raises(TeacherOutputError, match="expected .* got"):
                method(record)


@pytest.mark.parametrize("kind", ["lattice", "posterior", "vector"])
def test_another_kind_of_record_is_refused(kind: str) -> None:
    others = {
        "lattice": random_vector(RNG(0), 2, 2),
        "posterior": random_lattice(RNG(0), 2, 2, 1),
        "vector": random_posterior(RNG(0), 2, 2),
    }
    with pytest.raises(TeacherOutputError, match="expected a .*Record, got"):
        make_codec(kind, {"name": "fp16"}).encode(others[kind])


def test_int8_uses_the_whole_range_of_each_channel() -> None:
    codec = make_codec("vector", {"name": "int8"})
    values = np.array([[1.0, -200.0, 0.0], [-0.5, 100.0, 0.0]], np.float32)
    arrays = codec.encode(VectorRecord(values))
    assert arrays["values"].tolist() == [[127, -127, 0], [-64, 64, 0]]
    assert np.allclose(arrays["scale"], [1 / 127, 200 / 127, 0])


def test_int8_of_no_frames_and_of_subnormal_channels() -> None:
    codec = make_codec("vector", {"name": "int8"})
    empty = codec.encode(VectorRecord(np.empty((0, 3), np.float32)))
    assert empty["values"].shape == (0, 3)
    assert empty["scale"].tolist() == [0, 0, 0]
    tiny = VectorRecord(np.full((2, 1), 1e-40, np.float32))
    decoded = codec.decode(codec.encode(tiny))
    assert isinstance(decoded, VectorRecord)
    assert (np.abs(decoded.values_TD - tiny.values_TD) <= codec.error_bound(tiny)).all()


def test_int8_takes_the_largest_floats() -> None:
    codec = make_codec("vector", {"name": "int8"})
    record = VectorRecord(np.array([[3.4e38], [-3.4e38]], np.float32))
    decoded = codec.decode(codec.encode(record))
    assert isinstance(decoded, VectorRecord)
    assert np.allclose(decoded.values_TD, record.values_TD, rtol=1e-6)


def test_fp16_vectors_say_what_does_not_fit() -> None:
    codec = make_codec("vector", {"name": "fp16"})
    with pytest.raises(TeacherOutputError, match="70000 .* use int8"):
        codec.encode(VectorRecord(np.array([[70000.0]], np.float32)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["fp16", "int8"])
def test_vectors_that_are_not_finite_are_refused(name: str, bad: float) -> None:
    values = np.array([[0.0, bad]], np.float32)
    with pytest.raises(TeacherOutputError, match="NaN or infinity"):
        make_codec("vector", {"name": name}).encode(VectorRecord(values))
