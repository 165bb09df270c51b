"""The n-gram: a distribution over label sequences, whose smoothing is the formula's."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcache.errors import ConfigError, InputError
from kdcache.loss.denominator import denominator_of, load_ngram, save_ngram
from kdcache.loss.ngram import NGram, estimate_ngram

if TYPE_CHECKING:
    from pathlib import Path

SEQUENCES = [(0, 1, 1), (1, 0), (0, 1, 2, 0), ()]
ORDERS = (1, 2, 3)

sequences_of = st.lists(st.lists(st.integers(0, 2), max_size=5), min_size=1, max_size=6)


def same(first: NGram, second: NGram) -> bool:
    names = ("order", "tokenizer", "last_H", "logp_HL", "next_HL")
    return all(np.array_equal(getattr(first, n), getattr(second, n)) for n in names)


@given(sequences_of, st.sampled_from(ORDERS))
@settings(max_examples=40, deadline=None)
def test_every_history_has_a_distribution(sequences: list[list[int]], order: int) -> None:
    ngram = estimate_ngram(sequences, 3, order)
    np.testing.assert_allclose(np.exp(ngram.logp_HL).sum(1), 1.0)
    assert np.isfinite(ngram.logp_HL).all()
    assert (ngram.last_H[ngram.next_HL] == np.arange(3)).all()


@given(sequences_of, st.sampled_from(ORDERS), st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None)
def test_the_order_of_transcripts_does_not_matter(sequences, order, random) -> None:
    mixed = list(sequences)
    random.shuffle(mixed)
    assert same(estimate_ngram(sequences, 3, order), estimate_ngram(mixed, 3, order))


def test_unigram_by_hand() -> None:
    # 13 events: 0 four times, 1 four, 2 once, the end four; four kinds, and 1/4 below them.
    ngram = estimate_ngram(SEQUENCES, 3, 1)
    expected = np.array([4, 4, 1, 4]) + 4 * np.full(4, 0.25)
    np.testing.assert_allclose(np.exp(ngram.logp_HL[0]), expected / 17)
    np.testing.assert_allclose(ngram.logp_HL, np.tile(ngram.logp_HL[0], (4, 1)))


def test_bigram_by_hand() -> None:
    unigram = np.exp(estimate_ngram(SEQUENCES, 3, 1).logp_HL[0])
    # After 0: 1 twice, the end twice.
    expected = (np.array([0, 2, 0, 2]) + 2 * unigram) / (4 + 2)
    ngram = estimate_ngram(SEQUENCES, 3, 2)
    np.testing.assert_allclose(np.exp(ngram.logp_HL[1 + 0]), expected)


def test_a_history_that_was_not_seen_is_its_end(tmp_path: Path) -> None:
    ngram = estimate_ngram(SEQUENCES, 3, 3)
    # 2 was never followed by 1, so that after (2, 1) what follows is what follows 1.
    after = ngram.next_HL[1 + 2, 1]
    assert after == 1 + 1
    assert ngram.next_HL[1 + 0, 1] > 3  # (0, 1) was seen, and is a history of its own


@pytest.mark.parametrize("order", ORDERS)
def test_the_probability_of_a_sequence_is_a_product(order: int) -> None:
    ngram = estimate_ngram(SEQUENCES, 3, order)
    short = sum(
        np.exp(ngram.log_prob(sequence))
        for length in range(9)
        for sequence in product(range(3), repeat=length)
    )
    assert 0.95 < short < 1.0


def test_a_label_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="outside 0 to 2"):
        estimate_ngram([(0, 3)], 3)
    with pytest.raises(InputError, match="none of the n-gram's 3"):
        estimate_ngram(SEQUENCES, 3).log_prob([0, 3])


@pytest.mark.parametrize("order", [0, 4])
def test_another_order_is_refused(order: int) -> None:
    with pytest.raises(ConfigError, match="expected 1, 2 or 3"):
        estimate_ngram(SEQUENCES, 3, order)


def test_nothing_to_estimate_from_is_refused() -> None:
    with pytest.raises(ConfigError, match="no transcripts"):
        estimate_ngram([], 3)


@pytest.mark.parametrize("order", ORDERS)
def test_to_a_file_and_back(tmp_path: Path, order: int) -> None:
    ngram = estimate_ngram(SEQUENCES, 3, order, tokenizer="ab12")
    first = save_ngram(ngram, tmp_path / "a" / "den.npz")
    assert same(load_ngram(first), ngram)
    second = save_ngram(estimate_ngram(SEQUENCES, 3, order, tokenizer="ab12"), tmp_path / "b.npz")
    assert first.read_bytes() == second.read_bytes()


def test_another_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "den.npz"
    with pytest.raises(InputError, match="is no denominator"):
        load_ngram(file)
    for content in (b"", b"PK", b"\x80\x04."):
        file.write_bytes(content)
        with pytest.raises(InputError, match="is no denominator"):
            load_ngram(file)
    np.savez(file, a=np.array([{}], dtype=object))
    with pytest.raises(InputError, match="is no denominator"):
        load_ngram(file)
    ngram = estimate_ngram(SEQUENCES, 3)
    save_ngram(NGram(2, "", ngram.last_H, ngram.logp_HL, ngram.next_HL + 9), file)
    with pytest.raises(InputError, match="does not have"):
        load_ngram(file)


def test_too_many_states_are_refused() -> None:
    with pytest.raises(ConfigError, match="lower order"):
        denominator_of(NGram(1, "", np.zeros(4097, int), np.zeros((4097, 2)), np.zeros((4097, 1))))
