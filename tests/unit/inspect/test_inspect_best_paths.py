"""Where best paths differ: against other ways to count it."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdcache.codec import HypothesesRecord, LatticeRecord, PosteriorRecord, ScoreRecord
from kdcache.inspect.best_paths import best_paths, edits
from kdcache.inspect.comparison import BestPaths

if TYPE_CHECKING:
    from collections.abc import Sequence

LABELS = st.lists(st.integers(0, 3), max_size=7)
SHIFT = 0.04


def by_recursion(a: Sequence[int], b: Sequence[int]) -> int:
    """The definition."""

    @cache
    def distance(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        replaced = distance(i - 1, j - 1) + (a[i - 1] != b[j - 1])
        return min(replaced, distance(i - 1, j) + 1, distance(i, j - 1) + 1)

    return distance(len(a), len(b))


@given(a=LABELS, b=LABELS)
def test_edits_are_the_fewest(a: list[int], b: list[int]) -> None:
    assert edits(a, b) == edits(b, a) == by_recursion(a, b)


def lattice(*frames_U: int, frames: int = 6) -> LatticeRecord:
    """A lattice whose one path says its labels in these frames."""
    logp_TSC = np.full((frames, len(frames_U) + 1, 3), -np.inf, np.float32)
    u = 0
    for t in range(frames):
        while u < len(frames_U) and frames_U[u] == t:
            logp_TSC[t, u, 1] = 0.0
            u += 1
        logp_TSC[t, u, 0] = 0.0
    return LatticeRecord(logp_TSC, np.zeros((*logp_TSC.shape[:2], 0), np.int32))


def said(*best: int) -> PosteriorRecord:
    """Frames whose likeliest class is this; of the class 9 nothing is kept."""
    ids_NK = np.array([[-1 if c == 9 else c] for c in best], np.int32)
    logp_N2 = np.log([[1e-9, 1.0] if c == 9 else [0.9, 0.1] for c in best]).astype(np.float32)
    logp_N2[ids_NK[:, 0] < 0, 0] = -np.inf
    return PosteriorRecord(logp_N2, ids_NK)


def hypotheses(*best: int) -> HypothesesRecord:
    lengths = np.array([len(best)], np.int32)
    return HypothesesRecord(np.zeros(1, np.float32), lengths, np.array(best, np.int32))


def test_labels_of_a_lattice_move_in_time() -> None:
    found = best_paths(lattice(0, 2, 3), lattice(0, 3, 5), 0, SHIFT)
    assert found == BestPaths(1, 1, 3, 2, pytest.approx(3 * SHIFT))
    assert best_paths(lattice(0, 2), lattice(0, 2), 0, SHIFT) == BestPaths(1, 0, 2, 0, 0.0)


def test_a_lattice_without_a_path_has_none_to_compare() -> None:
    blocked = lattice(1, 2)
    blocked.logp_TSC[:] = -np.inf
    assert best_paths(lattice(1, 2), blocked, 0, SHIFT) is None


def test_what_ctc_says() -> None:
    ours, theirs = said(0, 5, 5, 0, 5, 7), said(0, 5, 0, 0, 6, 7)
    assert best_paths(ours, theirs, 0, SHIFT) == BestPaths(1, 1, 3, 1)
    assert best_paths(said(0, 0), said(5, 0), 0, SHIFT) == BestPaths(1, 1, 0, 1)


def test_frames_of_which_no_class_is_kept_say_nothing() -> None:
    assert best_paths(said(9, 5, 9, 5), said(0, 5, 0, 5), 0, SHIFT) == BestPaths(1, 0, 2, 0)


def test_posteriors_of_a_decoder_and_scores_have_no_path() -> None:
    assert best_paths(said(1), said(2), None, SHIFT) is None
    score = ScoreRecord(np.zeros(1, np.float32))
    assert best_paths(score, score, 0, SHIFT) is None


def test_hypotheses_differ_in_what_they_say() -> None:
    assert best_paths(hypotheses(4, 5), hypotheses(4), None, SHIFT) == BestPaths(1, 1, 2, 1)
    none = HypothesesRecord(np.zeros(0, np.float32), np.zeros(0, np.int32), np.zeros(0, np.int32))
    assert best_paths(hypotheses(4), none, None, SHIFT) is None


def test_figures_add_up() -> None:
    both = BestPaths(1, 1, 3, 2, 0.5) + BestPaths(2, 0, 4, 0, 0.0)
    assert both == BestPaths(3, 1, 7, 2, 0.5)
    assert (BestPaths(1, 1, 3, 2) + BestPaths(1, 0, 3, 0)).seconds is None
