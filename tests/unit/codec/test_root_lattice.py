"""Codec ``root`` of lattices at the edges: sizes, certainty, zero, damage; and what it saves."""

from __future__ import annotations

import numpy as np
import pytest

from kdcache.codec import LatticeRecord, make_codec
from kdcache.codec.divergence import divergence
from kdcache.codec.lattice import LatticeCodec
from kdcache.codec.node_scale import NodeScale
from kdcache.codec.root_lattice import RootLatticeCodec
from kdcache.errors import ConfigError, DamagedCacheError, TeacherOutputError
from kdcache.testing.codec_contract import same_starts
from kdcache.testing.records import normalise, random_band, random_lattice

ROOT = make_codec("lattice", {"name": "root"})


def whole(logits_TSC: np.ndarray, ids_TSK: np.ndarray | None = None) -> LatticeRecord:
    if ids_TSK is None:
        ids_TSK = np.zeros((*logits_TSC.shape[:2], logits_TSC.shape[2] - 3), np.int32)
    return LatticeRecord(normalise(logits_TSC), ids_TSK)


def walk(rng: np.random.Generator, frames: int, width: int, classes: int = 3) -> LatticeRecord:
    """A whole lattice whose frames change gradually, as of a trained teacher."""
    logits_TSC = rng.normal(size=(frames, width, classes)).cumsum(0)
    logits_TSC[..., :2] += [8.0, 7.0]
    logits_TSC[:, -1, 1] = -np.inf
    return whole(logits_TSC)


def round_trip(record: LatticeRecord, steps: int = 16) -> LatticeRecord:
    codec = make_codec("lattice", {"name": "root", "steps": steps})
    decoded = codec.decode(codec.encode(record))
    assert isinstance(decoded, LatticeRecord)
    given, found = record.logp_TSC, decoded.logp_TSC
    assert np.array_equal(np.isneginf(given), np.isneginf(found))
    finite = np.isfinite(given)
    error = np.abs(given[finite] - found[finite])
    assert (error <= codec.error_bound(record)[finite]).all()
    assert np.array_equal(record.ids_TSK, decoded.ids_TSK)
    assert same_starts(record, decoded)
    return decoded


@pytest.mark.parametrize("steps", [2, 16, 1024])
@pytest.mark.parametrize(
    ("frames", "labels", "kept"), [(1, 0, 0), (1, 5, 2), (30, 0, 0), (2, 1, 8), (7, 40, 0)]
)
def test_every_size(frames: int, labels: int, kept: int, steps: int) -> None:
    round_trip(random_lattice(np.random.default_rng(frames), frames, labels, kept), steps)


def test_no_frames_keep_their_width() -> None:
    empty = LatticeRecord(np.zeros((0, 4, 5), np.float32), np.zeros((0, 4, 2), np.int32))
    assert round_trip(empty).logp_TSC.shape == (0, 4, 5)


def test_large_vocabularies() -> None:
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 65_534, (20, 6, 4)).astype(np.int32)
    ids[3:5] = -1
    round_trip(whole(rng.normal(size=(20, 6, 7)) * 5, ids))
    with pytest.raises(ConfigError, match="65,535 classes exceeds"):
        ROOT.encode(whole(np.zeros((1, 1, 4)), np.full((1, 1, 1), 65_534)))
    with pytest.raises(TeacherOutputError, match="ids of −1 or more, got -2"):
        ROOT.encode(whole(np.zeros((1, 1, 4)), np.full((1, 1, 1), -2)))


@pytest.mark.parametrize("certain", [0, 1, 2])
def test_certainty_is_all_but_free(certain: int) -> None:
    logits = np.full((400, 5, 3), -np.inf)
    logits[..., certain] = 0
    columns = ROOT.encode(whole(logits))
    decoded = round_trip(whole(logits))
    assert (decoded.logp_TSC[..., certain] == 0).all()
    # Half a byte a node tells where zeros are not usual, and nothing tells the rest.
    assert columns["packed"].nbytes < 400 * 5 * 0.6


def test_all_blank_with_a_trace_of_the_others() -> None:
    logits = np.tile([0.0, -12.0, -12.0], (375, 5, 1))
    logits[:, -1, 1] = -np.inf
    columns = ROOT.encode(whole(logits))
    assert columns["packed"].nbytes < 40
    found = np.exp(round_trip(whole(logits)).logp_TSC)
    assert found[0, 0, 1] == pytest.approx(np.exp(-12.0), rel=0.05)


@pytest.mark.parametrize("kept", [0, 4, 20])
@pytest.mark.parametrize("steps", [2, 3, 16])
def test_uniform(kept: int, steps: int) -> None:
    """Where the others are rounded up to more than there is, all are divided by the sum."""
    decoded = round_trip(whole(np.zeros((6, 3, 3 + kept))), steps)
    assert np.allclose(np.exp(decoded.logp_TSC).sum(-1), 1, atol=1e-6)


def test_all_of_a_node_but_one_may_be_impossible_anywhere() -> None:
    rng = np.random.default_rng(2)
    logits = np.where(rng.random((30, 6, 5)) < 0.6, -np.inf, rng.normal(size=(30, 6, 5)))
    logits[..., 3] = 0.0
    round_trip(whole(logits))


def test_nan_and_no_probability_are_refused_by_name() -> None:
    bad = normalise(np.zeros((2, 2, 3)))
    bad[1, 1, 1] = np.nan
    with pytest.raises(TeacherOutputError, match="NaN among the log-probabilities"):
        ROOT.encode(LatticeRecord(bad, np.zeros((2, 2, 0), np.int32)))
    bad[1, 1] = -np.inf
    with pytest.raises(TeacherOutputError, match="no class above zero probability"):
        ROOT.encode(LatticeRecord(bad, np.zeros((2, 2, 0), np.int32)))


@pytest.mark.parametrize("seed", range(3))
def test_twice_the_steps_lose_about_a_quarter(seed: int) -> None:
    record = walk(np.random.default_rng(seed), 200, 6)
    lost = [
        float(divergence(record.logp_TSC, round_trip(record, steps).logp_TSC).mean())
        for steps in (8, 16, 32, 64, 128)
    ]
    ratios = np.array(lost[:-1]) / np.array(lost[1:])
    assert ((ratios > 2.5) & (ratios < 5)).all()
    assert lost[1] < 1e-3


@pytest.mark.parametrize("classes", [3, 6])
def test_it_takes_half_of_a_byte_a_class_and_less(classes: int) -> None:
    record = walk(np.random.default_rng(5), 375, 5, classes)
    fixed = make_codec("lattice", {"name": "log8"}).encode(record)
    assert ROOT.encode(record)["packed"].nbytes < fixed["logp"].nbytes / 2


def test_what_neighbours_tell_is_worth_it() -> None:
    """The same nodes in another order take more."""
    rng = np.random.default_rng(6)
    record = walk(rng, 400, 5)
    mixed = LatticeRecord(record.logp_TSC[rng.permutation(400)], record.ids_TSK)
    sizes = [ROOT.encode(one)["packed"].nbytes for one in (record, mixed)]
    assert sizes[0] < 0.9 * sizes[1]


def test_code_zero_stands_for_what_loses_least() -> None:
    record = walk(np.random.default_rng(7), 300, 5)
    logp_NC = record.logp_TSC.reshape(-1, 3).astype(np.float64)
    scale = NodeScale(16)
    codes = scale.codes(logp_NC)
    best = divergence(logp_NC, scale.logp(codes)).mean()
    for kind in range(3):
        for away in (-4, 4):
            floors = codes.floors.astype(np.int64)
            floors[0, kind] += away
            other = divergence(logp_NC, scale.logp(codes._replace(floors=floors))).mean()
            assert other > best


def test_bytes_that_break_off_are_damage() -> None:
    columns = ROOT.encode(random_band(np.random.default_rng(1)))
    packed = columns["packed"]
    for length in range(len(packed)):
        with pytest.raises(DamagedCacheError):
            ROOT.decode({**columns, "packed": packed[:length]})


def test_flipped_bits_are_damage_or_another_lattice() -> None:
    """Checksums find them; decoding does not fall over them."""
    columns = ROOT.encode(random_lattice(np.random.default_rng(3), 9, 3, 2))
    refused = 0
    for bit in range(len(columns["packed"]) * 8):
        packed = columns["packed"].copy()
        packed[bit // 8] ^= 1 << bit % 8
        try:
            decoded = ROOT.decode({**columns, "packed": packed})
        except DamagedCacheError:
            refused += 1
        else:
            assert isinstance(decoded, LatticeRecord)
            assert np.allclose(np.exp(decoded.logp_TSC).sum(-1), 1, atol=1e-5)
    assert refused > 20


@pytest.mark.parametrize("width", [0, 255])
def test_a_lattice_beyond_all_memory_is_damage(width: int) -> None:
    sizes = [255, 255, 255, 127, width, *([1] if width else []), 0, 0]
    packed = np.array([*sizes, *[0] * 3, *[255] * 15, 0], np.uint8)
    with pytest.raises(DamagedCacheError, match="a lattice of 268,435,455 ×"):
        ROOT.decode({"packed": packed})


def test_starts_of_other_frames_are_damage() -> None:
    columns = ROOT.encode(random_band(np.random.default_rng(4)))
    with pytest.raises(DamagedCacheError, match="starts of 0 windows"):
        ROOT.decode({**columns, "starts": np.full(1, 255, np.uint8)})


def test_it_is_no_codec_of_fixed_width() -> None:
    """``kdcache.stream.packed`` pads codes of those before decoding."""
    assert not isinstance(ROOT, LatticeCodec)


def mixed(rng: np.random.Generator) -> LatticeRecord:
    """Whole or a band, any size, with zero probabilities at times."""
    kind = int(rng.integers(4))
    if kind == 0:
        return random_band(rng, kept=2)
    if kind == 1:
        return LatticeRecord(np.zeros((0, 4, 5), np.float32), np.zeros((0, 4, 2), np.int32))
    record = walk(rng, int(rng.integers(1, 30)), int(rng.integers(1, 7)), 5)
    if kind == 2:
        record.logp_TSC[rng.random(record.logp_TSC.shape) < 0.1] = -np.inf
        record.logp_TSC[..., 0] = 0.0
    return record


@pytest.mark.parametrize("kept", [0, 2])
def test_many_lattices_at_once_are_each_by_itself(kept: int) -> None:
    rng, codec = np.random.default_rng(11), RootLatticeCodec(16)
    records = [mixed(rng) for _ in range(40)]
    if kept == 0:  # some of another number of classes among them
        records[5:9] = [walk(rng, 8, 3) for _ in range(4)]
    parts = [codec.encode(record) for record in records]
    for columns, found in zip(parts, codec.decode_all(parts), strict=True):
        alone = codec.decode(columns)
        assert found.logp_TSC.shape == alone.logp_TSC.shape
        assert found.logp_TSC.tobytes() == alone.logp_TSC.tobytes()
        assert np.array_equal(found.ids_TSK, alone.ids_TSK)
        assert same_starts(found, alone)


def test_damage_of_one_lattice_is_told_among_many() -> None:
    rng, codec = np.random.default_rng(12), RootLatticeCodec(16)
    parts = [codec.encode(walk(rng, 20, 4)) for _ in range(3)]
    parts[1] = {**parts[1], "packed": parts[1]["packed"][:-3]}
    with pytest.raises(DamagedCacheError):
        codec.decode_all(parts)


def test_no_lattices_at_all() -> None:
    assert RootLatticeCodec().decode_all([]) == []
