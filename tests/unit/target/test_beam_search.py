"""Beam searches: with a beam as wide as all, they find what enumeration finds."""

from __future__ import annotations

import math
from itertools import product
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcache.errors import TeacherOutputError
from kdcache.target.beam import best, log_add, lowest_kept
from kdcache.target.ctc_beam import ctc_beam_search
from kdcache.target.likelihood import ctc_likelihoods
from kdcache.target.transducer_beam import transducer_beam_search
from tests.unit.target.conftest import ToyTransducer, states_after
from tests.unit.target.test_likelihood import ctc_truth, logits

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from kdcache.target.beam import Labels

ALL = 1000


def ranked(truth: dict[Labels, float]) -> list[Labels]:
    return sorted(truth, key=lambda labels: (-truth[labels], labels))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4), st.integers(0, 3), st.integers(0, 999))
def test_ctc_with_a_beam_for_all_ranks_as_enumeration(frames: int, blank: int, seed: int) -> None:
    logits_TV = logits(frames, 4, seed=seed)
    truth = ctc_truth(logits_TV, blank)
    found = ctc_beam_search(logits_TV, blank, ALL, budget=5)
    assert found == ranked(truth)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 5), st.integers(1, 4), st.integers(0, 999))
def test_ctc_s_short_cuts_change_nothing(frames: int, beam: int, seed: int) -> None:
    """Extensions that are not looked at would not have stayed: against a plain search."""
    logits_TV = logits(frames, 5, seed=seed)
    assert ctc_beam_search(logits_TV, 4, beam) == _plain_ctc_search(logits_TV, 4, beam)


def _plain_ctc_search(logits_TV: Tensor, blank: int, beam: int) -> list[Labels]:
    found: dict[Labels, tuple[float, float]] = {(): (0.0, -math.inf)}
    for row in logits_TV.float().log_softmax(-1).double().tolist():
        new: dict[Labels, list[float]] = {}
        for labels, (in_blank, in_label) in found.items():
            total = log_add(in_blank, in_label)
            ends = new.setdefault(labels, [-math.inf, -math.inf])
            ends[0] = log_add(ends[0], total + row[blank])
            if labels:
                ends[1] = log_add(ends[1], in_label + row[labels[-1]])
            for label in range(len(row)):
                if label != blank:
                    before = in_blank if labels and labels[-1] == label else total
                    ends = new.setdefault((*labels, label), [-math.inf, -math.inf])
                    ends[1] = log_add(ends[1], before + row[label])
        totals = {labels: log_add(*ends) for labels, ends in new.items()}
        found = {labels: (new[labels][0], new[labels][1]) for labels in ranked(totals)[:beam]}
    return list(found)


def test_ctc_repeats_need_a_blank_between() -> None:
    certain = torch.full((4, 3), -1e4)
    for frame, label in enumerate((1, 1, 0, 1)):
        certain[frame, label] = 0
    assert ctc_beam_search(certain, 0, 4)[0] == (1, 1)
    assert ctc_beam_search(certain, 2, 4)[0] == (1, 0, 1)


def test_equally_likely_sequences_come_in_order() -> None:
    uniform = torch.zeros(1, 5)
    assert ctc_beam_search(uniform, 2, 9) == [(), (0,), (1,), (3,), (4,)]
    assert ctc_beam_search(uniform, 2, 3) == [(), (0,), (1,)]


def test_impossible_classes_are_in_no_hypothesis() -> None:
    spoilt = logits(4, 5)
    spoilt[:, 2] = -math.inf
    found = ctc_beam_search(spoilt, 4, ALL)
    assert found
    assert all(2 not in labels for labels in found)
    spoilt[:, [0, 1, 3]] = -math.inf
    assert ctc_beam_search(spoilt, 4, ALL) == [()]


def test_ctc_half_precision_and_bad_logits(normal: Callable[..., Tensor]) -> None:
    half = normal(6, 5).half()
    assert ctc_beam_search(half, 0, 4) == ctc_beam_search(half.float(), 0, 4)
    half[3, 1] = float("nan")
    with pytest.raises(TeacherOutputError, match="NaN or infinite"):
        ctc_beam_search(half, 0, 4)
    with pytest.raises(TeacherOutputError, match="Blank is 5, of 5 classes"):
        ctc_beam_search(normal(6, 5), 5, 4)


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 2), st.integers(0, 999))
def test_a_transducers_with_a_beam_for_all_ranks_as_enumeration(frames: int, seed: int) -> None:
    toy = ToyTransducer(frames=frames, labels=2, seed=seed)
    truth = {
        labels: toy.likelihood(labels)
        for length in range(5)
        for labels in product(range(2), repeat=length)
    }
    found = transducer_beam_search(toy.lattice(()), toy, ALL, max_symbols=4)
    assert [labels for labels in found if len(labels) <= 4] == ranked(truth)


def test_a_narrow_beam_finds_what_is_likely() -> None:
    toy = ToyTransducer(frames=12, labels=20, seed=3)
    wide = transducer_beam_search(toy.lattice(()), toy, 64, max_symbols=3)
    narrow = transducer_beam_search(toy.lattice(()), toy, 4, max_symbols=3)
    assert len(narrow) == 4
    best_of_all = max(toy.likelihood(labels) for labels in wide)
    assert toy.likelihood(narrow[0]) >= best_of_all - 1.0


def test_labels_of_a_frame_are_bounded() -> None:
    toy = ToyTransducer(frames=2, labels=2, seed=0)
    found = transducer_beam_search(toy.lattice(()), toy, ALL, max_symbols=2)
    assert max(map(len, found)) == 4
    assert len(found) == 2**5 - 1


def test_a_transducer_without_any_alignment_has_no_hypothesis() -> None:
    toy = ToyTransducer(frames=3, labels=2, seed=0, blank_bias=-math.inf)
    assert transducer_beam_search(toy.lattice(()), toy, 5, max_symbols=2) == []


def test_states_are_those_of_the_whole_sequence() -> None:
    toy = ToyTransducer(frames=3, labels=4, seed=1)
    whole = states_after(toy, (3, 1, 2))
    assert whole.shape == (4, toy.width)
    torch.testing.assert_close(whole[:3], states_after(toy, (3, 1)))
    assert not torch.equal(whole[3], states_after(toy, (1, 3, 2))[3])


def test_searching_twice_gives_the_same() -> None:
    toy = ToyTransducer(frames=8, labels=9, seed=5)
    first, second = (transducer_beam_search(toy.lattice(()), toy, 6, 3) for _ in range(2))
    assert first == second


@given(st.floats(-50, 0), st.floats(-50, 0))
def test_adding_logarithms(a: float, b: float) -> None:
    assert log_add(a, b) == pytest.approx(math.log(math.exp(a) + math.exp(b)))
    assert log_add(a, -math.inf) == log_add(-math.inf, a) == a


def test_what_stays() -> None:
    scores = {(2,): -1.0, (1,): -1.0, (0,): -2.0, (3,): -math.inf}
    assert best(scores, 2) == [(1,), (2,)]
    assert best(scores, 9) == [(1,), (2,), (0,)]
    assert lowest_kept(scores, 3) == -2.0
    assert lowest_kept(scores, 5) == -math.inf
    assert log_add(-math.inf, -math.inf) == -math.inf


def test_scores_of_ctc_are_those_of_the_loss() -> None:
    logits_TV = logits(30, 8, seed=2)
    found = ctc_beam_search(logits_TV, 0, 16)
    scores = ctc_likelihoods(logits_TV, found, 0)
    assert scores[0] >= max(scores) - 0.5
    assert sum(math.exp(score) for score in scores) <= 1 + 1e-9
