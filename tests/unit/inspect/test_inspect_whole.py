"""How far two words on a whole utterance are apart."""

from __future__ import annotations

import numpy as np

from kdcache.codec import HypothesesRecord, ScoreRecord
from kdcache.inspect.summary import without_tables
from kdcache.inspect.whole import best_distance, other_best, score_distance


def score(value: float) -> ScoreRecord:
    return ScoreRecord(np.array([value], np.float32))


def listed(*lists: tuple[float, list[int]]) -> HypothesesRecord:
    return HypothesesRecord(
        np.array([value for value, _ in lists], np.float32),
        np.array([len(labels) for _, labels in lists], np.int32),
        np.array([label for _, labels in lists for label in labels], np.int32),
    )


def test_scores() -> None:
    assert score_distance(score(-3), score(-5)).tolist() == [2.0]
    assert score_distance(score(-3), score(-np.inf)).tolist() == [np.inf]
    assert score_distance(score(-np.inf), score(-3)).tolist() == [np.inf]
    assert score_distance(score(-np.inf), score(-np.inf)).tolist() == [0.0]


def test_hypotheses_by_their_best() -> None:
    ours, theirs = listed((-1, [4, 5]), (-2, [])), listed((-1.5, [4, 5]))
    assert best_distance(ours, theirs).tolist() == [0.5]
    assert not other_best(ours, theirs)
    assert other_best(ours, listed((-1, [5, 4])))
    assert other_best(ours, listed((-1, [4])))


def test_a_side_without_hypotheses() -> None:
    assert best_distance(listed(), listed((-1, [2]))).tolist() == []
    assert other_best(listed(), listed((-1, [2])))
    assert not other_best(listed(), listed())


def test_tables_are_named_by_their_digest() -> None:
    long = "A" * 257
    found = without_tables({"kind": "additive", "rows": 3, "codes": long})
    assert (found["kind"], found["rows"]) == ("additive", 3)
    assert found["codes"].startswith("sha256:")
    assert found["codes"] != without_tables(long + "A")
    assert without_tables("A" * 256) == "A" * 256
    assert without_tables(7.5) == 7.5
