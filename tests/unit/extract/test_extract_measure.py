"""What is measured of a setting is what the cache's catalogue would say of it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from kdcache.codec import make_codec
from kdcache.errors import ConfigError
from kdcache.extract.goals import parse_wanted
from kdcache.extract.measure import Sample, by_settings, measure
from kdcache.target import Reduced, make_target, target_spec
from kdcache.teacher.protocol import LatticeLogits, TeacherOutput

V, J = 12, 5


def output_of(rng, frames, labels=3):
    joint = torch.from_numpy(rng.normal(0, 3, (J, V)).astype(np.float32))
    lattice = LatticeLogits(
        torch.from_numpy(rng.normal(size=(frames, J)).astype(np.float32)),
        torch.from_numpy(rng.normal(size=(labels + 1, J)).astype(np.float32)),
        lambda e, d: torch.tanh(e + d) @ joint,
        blank=0,
    )
    logits_TV = torch.from_numpy(rng.normal(0, 3, (frames, V)).astype(np.float32))
    tokens = tuple(range(1, labels + 1))
    hidden_TD = torch.zeros(frames, 1)
    return TeacherOutput(frames, tokens, hidden_TD, logits_TV, lattice, utterance=str(frames))


@pytest.fixture
def sample():
    rng = np.random.default_rng(0)
    lengths = (5, 9, 30, 12)
    return Sample(tuple(output_of(rng, n) for n in lengths), tuple(n / 25 for n in lengths))


def asked_of(entry, goal=0.01):
    (found,) = parse_wanted([entry], goal)
    return found


def rows_of(sample, spec):
    """Fidelity and bytes as a worker would record them, and the rows of each utterance."""
    target, codec = make_target(spec), make_codec(spec.record, spec.codec)
    reduced = [target.reduce(output, codec) for output in sample.outputs]
    sizes = sum(a.nbytes for r in reduced for a in r.columns.values())
    return reduced, sizes


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        ({"kind": "encoder_logits", "top_k": 2}, "kl_full"),
        (
            {"kind": "encoder_logits", "min_p": 0.01, "codec": {"name": "root", "bits": 5}},
            "kl_full",
        ),
        ({"kind": "encoder_logits", "samples": 20}, "kl_sampled"),
        ({"kind": "lattice", "epsilon": None}, "kl"),
        ({"kind": "lattice", "width": 3}, "kl"),
    ],
)
def test_means_and_bytes_are_the_catalogues(sample, entry, name):
    asked = asked_of(entry)
    (found,) = measure([asked.base], sample, asked, 0.0)
    reduced, size = rows_of(sample, asked.base)
    counts = [r.losses[name].size for r in reduced]
    mean = np.average([r.fidelity[f"{name}_mean"] for r in reduced], weights=counts)
    assert found.mean == pytest.approx(mean, rel=1e-6)
    assert found.bytes_per_hour == pytest.approx(size / sample.hours)
    rows = np.concatenate([r.losses[name].reshape(-1) for r in reduced])
    assert found.p99 == np.sort(rows)[int(np.ceil(0.99 * len(rows))) - 1]
    assert found.upper > found.mean


def test_a_band_that_is_open_pays_for_what_it_leaves_out(sample):
    open_band, fixed = asked_of("lattice"), asked_of({"kind": "lattice", "width": 2})
    assert (open_band.band, fixed.band) == (True, False)
    spec = fixed.base
    (paid,), (free,) = measure([spec], sample, open_band, 0), measure([spec], sample, fixed, 0)
    reduced, _ = rows_of(sample, spec)
    counts = [r.losses["kl"].size for r in reduced]
    outside = [-np.log(1 - r.fidelity["band_outside"]) for r in reduced]
    assert paid.mean - free.mean == pytest.approx(np.average(outside, weights=counts), rel=1e-6)
    assert paid.bytes_per_hour == free.bytes_per_hour


def test_codecs_side_by_side_are_as_one_by_one(sample):
    asked = asked_of({"kind": "lattice", "epsilon": 0.01})
    specs = [
        target_spec({"kind": "lattice", "epsilon": 0.01, "codec": codec})
        for codec in ("log8", "fp16")
    ]
    assert by_settings([*specs, asked_of("lattice").base])[0] == specs
    together = measure(specs, sample, asked, 0)
    assert together == [measure([spec], sample, asked, 0)[0] for spec in specs]


def test_the_margin_is_that_of_the_ratio_estimator(sample):
    """By hand for two utterances; none for one, of which nothing can be told."""
    asked = asked_of({"kind": "encoder_logits", "top_k": 2})
    two = Sample(sample.outputs[:2], sample.seconds[:2])
    (found,) = measure([asked.base], two, asked, 0)
    reduced, _ = rows_of(two, asked.base)
    sums = [r.losses["kl_full"].sum() for r in reduced]
    counts = np.array([5, 9])
    off = np.array(sums) - counts * sum(sums) / 14
    expected = 1.645 * np.sqrt(2 * (off**2).sum()) / 14
    assert found.upper - found.mean == pytest.approx(expected)
    (alone,) = measure([asked.base], Sample(sample.outputs[:1], (1.0,)), asked, 0)
    assert alone.upper == alone.mean


def test_a_margin_holds_for_what_was_not_heard():
    """The mean of many other utterances is below it nineteen times of twenty, or so."""
    rng = np.random.default_rng(5)
    asked = asked_of({"kind": "encoder_logits", "top_k": 2})
    crowd = [output_of(rng, int(n)) for n in rng.integers(3, 12, 400)]
    (truth,) = measure([asked.base], Sample(tuple(crowd), (1.0,) * 400), asked, 0)
    held = 0
    for start in range(0, 400, 10):
        some = Sample(tuple(crowd[start : start + 10]), (1.0,) * 10)
        held += truth.mean <= measure([asked.base], some, asked, 0)[0].upper
    assert 33 <= held <= 40


def test_a_table_counts_by_the_hours_of_the_corpus(sample):
    table = {"kind": "prior", "rows": 1, "vocabulary": V, "codes": "A" * 16, "row_of": "A" * 32}
    asked = asked_of({"kind": "encoder_logits", "codec": {"name": "root", "tail": table}})
    free, small, large = (measure([asked.base], sample, asked, h)[0] for h in (0, 0.01, 1))
    once = large.bytes_per_hour - free.bytes_per_hour
    assert 48 < once < 200
    assert small.bytes_per_hour - free.bytes_per_hour == pytest.approx(100 * once)


def test_halves_share_nobody_unless_there_is_but_one(sample):
    first, second = sample.halves()
    assert {o.utterance for o in first.outputs} == {"5", "30"}
    assert {o.utterance for o in second.outputs} == {"9", "12"}
    assert second.seconds == (9 / 25, 12 / 25)
    alone = Sample(sample.outputs[:1], sample.seconds[:1])
    assert alone.halves() == (alone, alone)


def test_a_target_of_ones_own_may_tell_its_mean_alone(sample, monkeypatch):
    asked = asked_of("encoder_logits")
    fidelity = {"kl_full_mean": 0.25}
    own = SimpleNamespace(reduce=lambda *_: Reduced({"x": np.zeros(4, np.uint8)}, fidelity))
    monkeypatch.setattr("kdcache.extract.measure.make_target", lambda _: own)
    (found,) = measure([asked.base], sample, asked, 0)
    assert (found.mean, found.p99) == (0.25, 0.25)
    fidelity.clear()
    with pytest.raises(ConfigError, match="does not tell its kl_full_mean"):
        measure([asked.base], sample, asked, 0)


def test_an_infinite_loss_is_within_no_goal(sample, monkeypatch):
    asked = asked_of("encoder_logits")
    rows = {"kl_full": np.array([0.0, np.inf])}
    own = SimpleNamespace(reduce=lambda *_: Reduced({}, {}, rows))
    monkeypatch.setattr("kdcache.extract.measure.make_target", lambda _: own)
    (found,) = measure([asked.base], sample, asked, 0)
    assert found.upper == np.inf
