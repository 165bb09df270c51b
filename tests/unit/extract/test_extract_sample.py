"""The sample: short and long, the same every time, whatever the order of the manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kdcache.extract.sample import sample_of
from kdcache.types import AudioRef, Utterance

if TYPE_CHECKING:
    import random


def corpus_of(durations):
    return [
        Utterance(f"u{i:04d}", AudioRef("a.wav", 0.0, seconds), "")
        for i, seconds in enumerate(durations)
    ]


@given(st.lists(st.floats(0.0, 40.0), min_size=1, max_size=60), st.integers(1, 80), st.randoms())
def test_as_many_as_asked_for_and_in_any_order_the_same(
    durations: list[float], count: int, rng: random.Random
) -> None:
    corpus = corpus_of(durations)
    found = sample_of(corpus, count)
    assert len({u.id for u in found}) == min(count, len(corpus))
    rng.shuffle(corpus)
    assert sample_of(corpus, count) == found


def test_every_stratum_of_durations_gives_one():
    rng = np.random.default_rng(0)
    corpus = corpus_of(np.sort(rng.gamma(2.0, 4.0, 1000)).tolist())
    found = {int(u.id[1:]) // 100 for u in sample_of(corpus, 10)}
    assert found == set(range(10))


def test_its_first_part_is_a_sample_too():
    corpus = corpus_of(range(1000))
    first = [u.duration for u in sample_of(corpus, 200)[:50]]
    assert 400 < np.mean(first) < 600


def test_an_utterance_more_changes_little():
    corpus = corpus_of(range(1000))
    before = {u.id for u in sample_of(corpus[:-1], 20)}
    assert len(before & {u.id for u in sample_of(corpus, 20)}) >= 15
