"""The model of the rest: what is estimated is what loses least."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kdcache.codec import TailModel
from kdcache.target.keep import Keep, keep_classes
from kdcache.target.tail import LEAST_ROWS, TailEstimator

VOCABULARY = 30


def teacher_rows(seed: int, rows: int = 600) -> torch.Tensor:
    """Log-probabilities whose tails depend on the likeliest class."""
    rng = np.random.default_rng(seed)
    shape = np.random.default_rng(99).normal(size=(3, VOCABULARY)) * 2
    sort = rng.integers(0, 3, rows)
    logits = shape[sort] + 0.5 * rng.normal(size=(rows, VOCABULARY))
    logits[np.arange(rows), sort] = 9.0
    return torch.from_numpy(logits).float().log_softmax(-1)


def estimated(kind: str, logp: torch.Tensor, keep: Keep) -> TailModel:
    estimator = TailEstimator(kind, VOCABULARY)
    for block in logp.split(100):
        kept = keep_classes(block, keep)
        estimator.add(kept.remaining_NV, kept.split.ids_XK[:, 0])
    return estimator.model()


@pytest.mark.parametrize("keep", [Keep(1), Keep("all", min_p=0.002)], ids=str)
def test_the_more_a_model_sees_the_less_is_lost(keep: Keep) -> None:
    train, test = teacher_rows(0), teacher_rows(1)
    tails = [None, *(estimated(kind, train, keep) for kind in ("prior", "top"))]
    lost = [float(keep_classes(test, keep, tail).split.spread_X.mean()) for tail in tails]
    assert lost[2] < 0.7 * lost[1] < 0.7 * lost[0]


def test_no_other_weights_lose_less_of_the_sample() -> None:
    logp, keep = teacher_rows(0), Keep(2)
    model = estimated("prior", logp, keep)

    def loss(tail: TailModel) -> float:
        return float(keep_classes(logp, keep, tail).split.spread_X.double().mean())

    rng = np.random.default_rng(0)
    for _ in range(10):
        other = np.exp(model.log_weights + 0.2 * rng.normal(size=(1, VOCABULARY)))
        assert loss(model) < loss(TailModel.from_weights(other, model.row_V))


def test_only_classes_that_were_seen_enough_have_weights_of_their_own() -> None:
    logp = teacher_rows(0)
    rare = logp[: LEAST_ROWS - 1].roll(10, dims=-1)
    model = estimated("top", torch.cat([logp, rare]), Keep(1))
    assert model.codes_RV.shape == (4, VOCABULARY)
    assert sorted(model.row_V[:3].tolist()) == [1, 2, 3]
    assert set(model.row_V[3:].tolist()) == {0}


def test_nothing_seen_is_spread_evenly() -> None:
    model = TailEstimator("top", 5).model()
    assert model.log_weights.tolist() == [[0.0] * 5]


def test_weights_are_stored_in_a_byte() -> None:
    weights = np.geomspace(1e-6, 1, 200)[None]
    model = TailModel.from_weights(weights, np.zeros(200, int))
    np.testing.assert_allclose(np.exp(model.log_weights), weights, rtol=0.033)
    assert TailModel.from_weights(
        np.array([[0.0, 2.0]]), np.zeros(2, int)
    ).log_weights.tolist() == [[-16.0, 0.0]]


def test_rows_are_found_by_the_likeliest_class() -> None:
    model = TailModel.from_weights(np.ones((3, 4)), np.array([0, 2, 1, 0]))
    assert model.rows_of(np.array([1, 2, 0, -1])).tolist() == [2, 1, 0, 0]
