"""A band of a lattice: the nodes that the whole lattice has there, chosen by the teacher itself."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from kdcache.codec import make_codec
from kdcache.codec.records import LABEL, LatticeRecord
from kdcache.errors import ConfigError, TeacherOutputError
from kdcache.lattice import BandRule, forward_backward, node_log_probs, node_occupancy
from kdcache.target import make_target, target_spec
from kdcache.target.lattice import LatticeTarget, collapse_lattice
from kdcache.teacher.protocol import LatticeLogits
from tests.unit.target.conftest import lattice_output, table_lattice

if TYPE_CHECKING:
    from collections.abc import Callable

LOG8 = make_codec("lattice", {"name": "log8"})


def occupancy_of(logits_TUV: Tensor, tokens: tuple[int, ...], blank: int) -> np.ndarray:
    """By the functions that are tested against every path, in float64."""
    labels = torch.tensor([tokens], dtype=torch.int64).reshape(1, -1)
    arcs = node_log_probs(logits_TUV[None].double(), labels, blank)
    frames, columns = logits_TUV.shape[:2]
    found = forward_backward(*arcs, torch.tensor([frames]), torch.tensor([columns - 1]))
    occupancy: np.ndarray = node_occupancy(found)[0].numpy()
    return occupancy


def windows(whole: np.ndarray, record: LatticeRecord) -> np.ndarray:
    """What a whole lattice has at the nodes of a band."""
    width = record.logp_TSC.shape[1]
    starts = np.zeros(len(whole), int) if record.starts_T is None else record.starts_T
    return np.stack([row[s : s + width] for row, s in zip(whole, starts, strict=True)])


@settings(max_examples=60)
@given(
    frames=st.integers(1, 9),
    labels=st.integers(0, 7),
    vocabulary=st.sampled_from([2, 3, 12, 500, 4096]),
    top_k=st.integers(0, 4),
    rule=st.builds(
        BandRule, st.none() | st.sampled_from([0.0, 1e-3, 0.3]), st.none() | st.integers(2, 6)
    ),
    gaps=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_a_band_holds_what_the_whole_lattice_holds_there(
    frames: int, labels: int, vocabulary: int, top_k: int, rule: BandRule, gaps: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 4.0 * torch.randn((frames, labels + 1, vocabulary), generator=generator)
    blank = int(torch.randint(vocabulary, (), generator=generator))
    draws = torch.randint(vocabulary - 1, (labels,), generator=generator).tolist()
    tokens = tuple(token + (token >= blank) for token in draws)
    if gaps:  # classes of zero probability, but no transcript of it
        hole = torch.rand(logits.shape, generator=generator) < 0.4
        hole[..., [blank, *tokens]] = False
        logits[hole] = -torch.inf
    whole, spread, _ = collapse_lattice(table_lattice(logits, blank), tokens, top_k)
    record, lost, band = collapse_lattice(table_lattice(logits, blank), tokens, top_k, rule)
    assert (band is None) == rule.is_whole
    np.testing.assert_array_equal(record.logp_TSC, windows(whole.logp_TSC, record))
    np.testing.assert_array_equal(record.ids_TSK, windows(whole.ids_TSK, record))
    np.testing.assert_array_equal(lost, windows(spread, record))
    assert record.labels == labels
    assert np.isneginf(record.logp_TSC[-1, -1, LABEL])
    if band is not None:
        expected = rule.choose(occupancy_of(logits, tokens, blank))
        assert band.width == record.logp_TSC.shape[1]
        assert band.outside == pytest.approx(expected.outside, abs=1e-5)
        assert (record.starts_T is None) == (band.width == labels + 1)


@pytest.mark.parametrize("budget", [1, 30, 97, 200, 2**24])
def test_chunks_change_nothing(normal: Callable[..., Tensor], budget: int) -> None:
    logits, tokens, rule = normal(13, 6, 10), (1, 2, 3, 1, 0), BandRule(width=3)
    whole, whole_spread, band = collapse_lattice(table_lattice(logits, 9), tokens, 2, rule)
    parts, spread, again = collapse_lattice(table_lattice(logits, 9), tokens, 2, rule, budget)
    np.testing.assert_array_equal(parts.logp_TSC, whole.logp_TSC)
    np.testing.assert_array_equal(parts.ids_TSK, whole.ids_TSK)
    np.testing.assert_array_equal(spread, whole_spread)
    assert band is not None
    assert again is not None
    np.testing.assert_array_equal(again.starts_T, band.starts_T)


@pytest.mark.parametrize(("vocabulary", "width"), [(50, 4), (5, 40)])
def test_no_chunk_is_larger_than_the_budget(vocabulary: int, width: int) -> None:
    seen: list[tuple[int, ...]] = []
    projection = torch.ones(width, vocabulary)

    def joint(encoder: Tensor, decoder: Tensor) -> Tensor:
        both = encoder + decoder
        seen.append(tuple(both.shape[:2]))
        return both @ projection

    lattice = LatticeLogits(torch.zeros(100, width), torch.zeros(9, width), joint, 0)
    record, _, _ = collapse_lattice(lattice, (1, 2) * 4, 0, BandRule(width=3), budget=2000)
    assert record.logp_TSC.shape == (100, 3, 3)
    assert max(t * s * max(vocabulary, width) for t, s in seen) <= 2000
    # All nodes once for two numbers each, then the band's nodes and no others.
    assert sum(t * s for t, s in seen if s == 9) == 100 * 9
    assert sum(t * s for t, s in seen if s == 3) == 100 * 3
    assert {s for _, s in seen} == {9, 3}


@pytest.mark.parametrize("rule", [None, BandRule(width=5)])
def test_memory_follows_the_budget_and_not_the_lattice(rule: BandRule | None) -> None:
    frames, labels, vocabulary, budget = 60, 40, 1000, 2**14
    head = torch.randn(8, vocabulary)
    lattice = LatticeLogits(
        torch.randn(frames, 8), torch.randn(labels + 1, 8),
        lambda encoder, decoder: torch.tanh(encoder + decoder) @ head, 0,
    )  # fmt: skip
    tokens = tuple(range(1, labels + 1))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        collapse_lattice(lattice, tokens, 2, rule, budget)
    # A frame has more logits than the budget, so frames come one by one.
    assert budget < (labels + 1) * vocabulary
    events = [e for e in watched.profiler.kineto_results.events() if e.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    peak = max(np.cumsum(changes))
    whole = frames * (labels + 1) * vocabulary * 4
    assert 4 * (labels + 1) * vocabulary < peak < whole / 4


def test_what_is_outside_is_recorded(normal: Callable[..., Tensor]) -> None:
    logits, tokens = normal(12, 7, 9), (1, 2, 3, 4, 5, 6)
    output = lattice_output(logits, tokens, 8)
    occupancy = occupancy_of(logits, tokens, 8)
    reduced = LatticeTarget(width=2).reduce(output, LOG8)
    expected = BandRule(width=2).choose(occupancy).outside
    assert 0 < expected < 1
    assert reduced.fidelity["band_outside"] == pytest.approx(expected, rel=1e-4)
    assert reduced.columns["logp"].shape == (12, 2, 3)
    assert set(reduced.fidelity) == {
        "band_outside", "kl_mean", "kl_max", "kl_full_mean", "kl_full_max"
    }  # fmt: skip
    assert "band_outside" not in LatticeTarget().reduce(output, LOG8).fidelity


def test_a_band_of_all_columns_is_the_whole_lattice(normal: Callable[..., Tensor]) -> None:
    output = lattice_output(normal(5, 3, 9), (1, 2), 8)
    whole, wide = (LatticeTarget(1, width=w).reduce(output, LOG8) for w in (None, 3))
    assert wide.columns.keys() == whole.columns.keys() == {"logp", "ids"}
    assert all(np.array_equal(wide.columns[name], whole.columns[name]) for name in whole.columns)
    assert wide.fidelity == {**whole.fidelity, "band_outside": 0.0}


def test_columns_are_the_codecs(normal: Callable[..., Tensor]) -> None:
    logits, tokens = normal(8, 5, 9), (1, 2, 1, 0)
    reduced = LatticeTarget(2, epsilon=0.3, width=3).reduce(lattice_output(logits, tokens, 8), LOG8)
    record, *_ = collapse_lattice(table_lattice(logits, 8), tokens, 2, BandRule(0.3, 3))
    assert record.starts_T is not None
    assert reduced.columns.keys() == {"logp", "ids", "starts"}
    for name, expected in LOG8.encode(record).items():
        np.testing.assert_array_equal(reduced.columns[name], expected)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_and_infinity_are_refused_by_name(normal: Callable[..., Tensor], bad: float) -> None:
    logits = normal(5, 4, 6)
    logits[4, 1, 2] = bad
    with pytest.raises(TeacherOutputError, match="NaN or infinite logits"):
        LatticeTarget(width=2).reduce(lattice_output(logits, (1, 2, 3), 5), LOG8)


def test_a_transcript_without_probability_has_no_band(normal: Callable[..., Tensor]) -> None:
    logits = normal(5, 3, 6)
    logits[:, 0, 1] = -torch.inf
    output = lattice_output(logits, (1, 2), 5)
    assert LatticeTarget().reduce(output, LOG8).columns["logp"].shape == (5, 3, 3)
    with pytest.raises(TeacherOutputError, match="gives the transcript probability 0"):
        LatticeTarget(epsilon=0.1).reduce(output, LOG8)


def test_tokens_that_are_no_labels_are_refused(normal: Callable[..., Tensor]) -> None:
    for tokens in ((6, 1), (5, 1)):
        with pytest.raises(TeacherOutputError, match="tokens are no labels"):
            LatticeTarget(width=2).reduce(lattice_output(normal(5, 3, 6), tokens, 5), LOG8)


class _Loser:
    """A codec of before there were bands."""

    def encode(self, record: LatticeRecord) -> dict[str, np.ndarray]:
        return LOG8.encode(record)

    def decode(self, columns: dict[str, np.ndarray]) -> Any:
        return LOG8.decode({name: columns[name] for name in columns if name != "starts"})


def test_a_codec_that_loses_starts(normal: Callable[..., Tensor]) -> None:
    output = lattice_output(normal(8, 5, 8), (1, 2, 3, 4), 7)
    with pytest.raises(ConfigError, match="did not give a band's starts back"):
        LatticeTarget(width=2).reduce(output, _Loser())  # type: ignore[arg-type]
    assert LatticeTarget().reduce(output, _Loser()).columns  # type: ignore[arg-type]


def test_settings_of_a_whole_lattice_are_as_before_there_were_bands() -> None:
    assert target_spec("lattice").settings == {"top_k": 0}
    assert target_spec({"kind": "lattice", "epsilon": None, "width": None}).settings == {"top_k": 0}


@pytest.mark.parametrize(
    "given_settings", [{"epsilon": 0.001}, {"width": 5}, {"epsilon": 0, "width": 9}]
)
def test_settings_make_an_equal_target(given_settings: dict[str, Any]) -> None:
    spec = target_spec({"kind": "lattice", "top_k": 2, **given_settings})
    assert json.loads(json.dumps(spec.settings)) == {"top_k": 2, **given_settings}
    assert make_target(spec) == LatticeTarget(2, **given_settings)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epsilon": 1}, "epsilon is 1; expected the share"),
        ({"epsilon": "small"}, "epsilon is 'small'"),
        ({"width": 1}, "width is 1; expected columns of a band, an integer from 2 on"),
        ({"width": 4.5}, "width is 4.5"),
        ({"epsilom": 0.1}, "Did you mean 'epsilon'"),
    ],
)
def test_settings_out_of_range(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        target_spec({"kind": "lattice", **wrong})
