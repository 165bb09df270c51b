"""Which hypothesis is believed: the formula, its ends, and the choice of its weight."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdcache.network.attention_decoder import AttentionDecoder
from kdcache.network.decoder_settings import DecoderSettings
from kdcache.score.nbest import Found
from kdcache.score.rescore import (
    WEIGHTS,
    Hypothesis,
    best_of,
    choose_weight,
    least_errors,
    second_scores,
)
from kdcache.score.wer import count_errors

SCORES = st.floats(-50, 0)
HYPOTHESES = st.lists(st.builds(Hypothesis, st.sampled_from("abc"), SCORES, SCORES), min_size=1)


def test_the_second_pass_is_the_sum_of_its_tokens() -> None:
    torch.manual_seed(0)
    decoder = AttentionDecoder(5, 6, DecoderSettings(width=8, layers=1, heads=2)).eval()
    hidden, frames = torch.randn(2, 4, 6), torch.tensor([4, 2])
    lists = [[(0, 1, 2), (), (3,)], [(1, 1)]]
    found = [[Found(labels, 0.0) for labels in row] for row in lists]
    output = SimpleNamespace(hidden_BTD=hidden, frames_B=frames)
    scores = second_scores(decoder, output, found)
    for row, sequences in enumerate(lists):
        for labels, score in zip(sequences, scores[row], strict=True):
            ids = torch.tensor([labels], dtype=torch.long).reshape(1, -1)
            heard = hidden[row : row + 1, : frames[row]]
            logp = decoder(ids, heard, frames[row : row + 1])[0].log_softmax(-1)
            expected = sum(float(logp[u, v].detach()) for u, v in enumerate((*labels, 4)))
            assert score == pytest.approx(expected, abs=1e-4)


@given(found=HYPOTHESES)
def test_the_ends_of_the_weight_are_one_pass_alone(found: list[Hypothesis]) -> None:
    assert best_of(found, 0.0).first == max(one.first for one in found)
    assert best_of(found, 1.0).second == max(one.second for one in found)


@given(found=HYPOTHESES, weight=st.floats(0, 1))
def test_nothing_scores_higher_than_the_best(found: list[Hypothesis], weight: float) -> None:
    best = best_of(found, weight)
    heights = [(1 - weight) * one.first + weight * one.second for one in found]
    assert best.score(weight) == pytest.approx(max(heights))
    # Of equal ones the first.
    assert found[[one.score(weight) for one in found].index(best.score(weight))] is best


def test_what_a_pass_rules_out_stays_out_unless_it_is_not_asked() -> None:
    found = [Hypothesis("a", -math.inf, -1.0), Hypothesis("b", -9.0, -9.0)]
    assert best_of(found, 0.5).text == "b"
    assert best_of(found, 1.0).text == "a"
    assert best_of([Hypothesis("", -math.inf, -1.0)], 0.5).text == ""


def test_the_weight_with_the_fewest_errors_and_of_equal_ones_the_smallest() -> None:
    lists = [
        [Hypothesis("a b", -1.0, -3.9), Hypothesis("a c", -3.0, -1.0)],  # c from 0.41 on
        [Hypothesis("d", -1.0, -3.0), Hypothesis("e", -3.0, -2.5)],  # e from 0.8 on
    ]
    texts = ["a c", "d"]
    weight = choose_weight(lists, texts)
    errors = {
        w: sum(
            sum(count_errors(text, best_of(found, w).text))
            for found, text in zip(lists, texts, strict=True)
        )
        for w in WEIGHTS
    }
    assert errors[weight] == min(errors.values()) == 0
    assert weight == min(w for w, count in errors.items() if count == 0) == 0.45
    assert choose_weight(lists, ["a b", "d"]) == 0.0


@given(found=HYPOTHESES, weight=st.sampled_from(WEIGHTS), text=st.sampled_from("abc"))
def test_no_weight_beats_the_nearest(found: list[Hypothesis], weight: float, text: str) -> None:
    nearest = sum(count_errors(text, least_errors(found, text).text))
    assert nearest <= sum(count_errors(text, best_of(found, weight).text))
