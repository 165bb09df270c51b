"""How far two teachers' words on a whole utterance are apart: scores, and lists of hypotheses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from kdcache.codec import HypothesesRecord, ScoreRecord


def score_distance(ours: ScoreRecord, theirs: ScoreRecord) -> np.ndarray:
    """|A − B| of the two log-probabilities: float64 (1,), +inf where one side alone has none."""
    return _distance(ours.score_1, theirs.score_1)


def best_distance(ours: HypothesesRecord, theirs: HypothesesRecord) -> np.ndarray:
    """|A − B| of the log-probabilities of each side's best hypothesis: float64 (1,), or (0,)
    where a side has none."""
    count = min(len(ours.scores_H), len(theirs.scores_H), 1)
    return _distance(ours.scores_H[:count], theirs.scores_H[:count])


def other_best(ours: HypothesesRecord, theirs: HypothesesRecord) -> bool:
    """Whether the sides' best hypotheses are other label sequences."""
    best_a, best_b = (record.sequences()[:1] for record in (ours, theirs))
    return [x.tolist() for x in best_a] != [x.tolist() for x in best_b]


def _distance(ours_N: np.ndarray, theirs_N: np.ndarray) -> np.ndarray:
    same_N = ours_N == theirs_N  # −inf of both among them, whose difference is no number
    ours_N, theirs_N = (np.where(same_N, 0.0, x.astype(np.float64)) for x in (ours_N, theirs_N))
    distance_N: np.ndarray = np.abs(ours_N - theirs_N)
    return distance_N
