"""log P(y | x) against every alignment, one by one."""

from __future__ import annotations

import math
from itertools import groupby, product
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcache.errors import TeacherOutputError
from kdcache.target.likelihood import ctc_likelihoods, lattice_likelihood, token_likelihood
from tests.unit.target.conftest import table_lattice

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

BLANK = 3


def logits(*shape: int, seed: int = 0) -> Tensor:
    return 3.0 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def log_sum(values: Sequence[float]) -> float:
    total = math.fsum(math.exp(value) for value in values)
    return math.log(total) if total else -math.inf


def spelt(classes: tuple[int, ...], blank: int) -> tuple[int, ...]:
    """What a row of CTC classes says: repeats are one, blanks are nothing."""
    return tuple(c for c, _ in groupby(classes) if c != blank)


def ctc_truth(logits_TV: Tensor, blank: int) -> dict[tuple[int, ...], float]:
    """log P of every label sequence that so many frames can spell."""
    logp_TV = logits_TV.double().log_softmax(-1).tolist()
    found: dict[tuple[int, ...], list[float]] = {}
    for classes in product(range(logits_TV.shape[1]), repeat=len(logp_TV)):
        score = sum(row[c] for row, c in zip(logp_TV, classes, strict=True))
        found.setdefault(spelt(classes, blank), []).append(score)
    return {labels: log_sum(scores) for labels, scores in found.items()}


def lattice_truth(logits_TUV: Tensor, tokens: Sequence[int], blank: int) -> float:
    """log P by the recursion that follows from the definition, from the end."""
    logp = logits_TUV.double().log_softmax(-1)
    frames, columns, _ = logits_TUV.shape

    def from_node(t: int, u: int) -> float:
        stay = float(logp[t, u, blank])
        last = t == frames - 1
        ways = [] if last and u < columns - 1 else [stay + (0.0 if last else from_node(t + 1, u))]
        if u < columns - 1:
            ways.append(float(logp[t, u, tokens[u]]) + from_node(t, u + 1))
        return log_sum(ways)

    return from_node(0, 0)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.lists(st.integers(0, 2), max_size=3), st.integers(0, 99))
def test_a_transducers(frames: int, tokens: list[int], seed: int) -> None:
    logits_TUV = logits(frames, len(tokens) + 1, 4, seed=seed)
    found = lattice_likelihood(table_lattice(logits_TUV, BLANK), tokens, budget=20)
    assert found == pytest.approx(lattice_truth(logits_TUV, tokens, BLANK), abs=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.integers(0, 3), st.integers(0, 99))
def test_ctcs_of_all_sequences_at_once(frames: int, blank: int, seed: int) -> None:
    logits_TV = logits(frames, 4, seed=seed)
    truth = ctc_truth(logits_TV, blank)
    found = ctc_likelihoods(logits_TV, list(truth), blank, budget=5)
    assert found == pytest.approx(list(truth.values()), abs=1e-4)
    assert math.fsum(math.exp(score) for score in found) == pytest.approx(1.0, abs=1e-5)


def test_an_attention_decoders_is_the_chain_rule() -> None:
    logits_UV = logits(3, 6)
    logp = logits_UV.double().log_softmax(-1)
    expected = float(logp[0, 4] + logp[1, 1] + logp[2, 5])
    assert token_likelihood(logits_UV, (4, 1), end=5) == pytest.approx(expected, abs=1e-5)
    assert token_likelihood(logits_UV[:1], (), end=5) == pytest.approx(float(logp[0, 5]), abs=1e-5)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    logits_UV, tokens = logits(5, 6), (1, 2, 3, 4)
    whole = token_likelihood(logits_UV, tokens, 0)
    monkeypatch.setattr("kdcache.target.likelihood.LOGIT_BUDGET", 7)
    assert token_likelihood(logits_UV, tokens, 0) == whole
    every = ctc_likelihoods(logits_UV, [tokens, ()], 0)
    assert ctc_likelihoods(logits_UV, [tokens, ()], 0, budget=1) == every


def test_more_labels_than_frames_have_no_ctc_alignment() -> None:
    assert ctc_likelihoods(logits(2, 4), [(0, 1, 2), (1, 1)], BLANK) == [-math.inf, -math.inf]


def test_a_label_that_cannot_be_has_no_path() -> None:
    logits_TUV = logits(3, 2, 4)
    logits_TUV[..., 1] = -math.inf
    assert lattice_likelihood(table_lattice(logits_TUV, BLANK), (1,)) == -math.inf


def test_long_sequences_keep_their_digits() -> None:
    """A uniform teacher: P is the number of alignments over V to the power of their steps."""
    frames, labels, vocabulary = 300, 200, 50
    lattice = table_lattice(torch.zeros(frames, labels + 1, vocabulary), vocabulary - 1)
    alignments = math.lgamma(frames + labels) - math.lgamma(labels + 1) - math.lgamma(frames)
    expected = alignments - (frames + labels) * math.log(vocabulary)
    found = lattice_likelihood(lattice, [i % 7 for i in range(labels)])
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_logits_that_are_no_numbers(normal: Callable[..., Tensor], bad: float) -> None:
    spoilt = normal(4, 6)
    spoilt[2, 3] = bad
    with pytest.raises(TeacherOutputError, match="NaN or infinite"):
        ctc_likelihoods(spoilt, [(1,)], 0)
    with pytest.raises(TeacherOutputError, match="NaN or infinite"):
        token_likelihood(spoilt, (1, 2, 3), 0)
    with pytest.raises(TeacherOutputError, match="NaN or infinite"):
        lattice_likelihood(table_lattice(spoilt[:, None], 0), ())


def test_what_does_not_fit(normal: Callable[..., Tensor]) -> None:
    for tokens in ((6,), (-1,), (0,)):
        with pytest.raises(TeacherOutputError, match="no labels of 6 classes with blank"):
            ctc_likelihoods(normal(4, 6), [tokens], 0)
    with pytest.raises(TeacherOutputError, match="gave 4 tokens of logits, expected 3"):
        token_likelihood(normal(4, 6), (1, 2), 0)
    with pytest.raises(TeacherOutputError, match="no classes of 6"):
        token_likelihood(normal(2, 6), (1,), 6)
    with pytest.raises(TeacherOutputError, match="gave 2 columns of the lattice, expected 3"):
        lattice_likelihood(table_lattice(normal(4, 2, 6), 0), (1, 2))
