"""Divergence of decoded posteriors: always that of the dense distributions they stand for.

Shapes: N rows, V vocabulary, K kept classes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdcache.codec import PosteriorRecord, TailModel
from kdcache.inspect import divergence as module
from kdcache.inspect.divergence import divergence

VOCABULARY = 9


def record(seed: int, rows: int, kept: int, ragged: bool, tail: bool) -> PosteriorRecord:
    """Rows that keep at most ``kept`` classes."""
    rng = np.random.default_rng(seed)
    logits_NC = rng.normal(size=(rows, kept + 1)) * 3
    ids_NK = rng.random((rows, VOCABULARY)).argsort(-1)[:, :kept].astype(np.int32)
    if ragged:
        absent_NK = rng.random((rows, kept)) < 0.4
        ids_NK[absent_NK], logits_NC[:, :-1][absent_NK] = -1, -np.inf
    logp_NC = logits_NC - np.log(np.exp(logits_NC).sum(-1, keepdims=True))
    weights_RV = rng.random((3, VOCABULARY)) + 0.01
    model = TailModel.from_weights(weights_RV, rng.integers(0, 3, VOCABULARY)) if tail else None
    return PosteriorRecord(logp_NC.astype(np.float32), ids_NK, model)


def dense(given: PosteriorRecord) -> np.ndarray:
    """The distribution of each row, class by class."""
    found_NV = np.zeros((len(given.logp_NC), VOCABULARY))
    for n, (logp_C, ids_K) in enumerate(zip(given.logp_NC, given.ids_NK, strict=True)):
        kept = {int(c): float(np.exp(x)) for c, x in zip(ids_K, logp_C, strict=False) if c >= 0}
        left = [c for c in range(VOCABULARY) if c not in kept]
        weights = dict.fromkeys(left, 1.0)
        if given.tail is not None:
            first = int(ids_K[0]) if len(ids_K) else -1
            row = 0 if first < 0 else int(given.tail.row_V[first])
            codes_V = given.tail.codes_RV[row].astype(float)
            weights = {c: float(np.exp(-16 * codes_V[c] / 255)) for c in left}
        total = sum(weights.values())
        for c in range(VOCABULARY):
            rest = float(np.exp(logp_C[-1]))
            found_NV[n, c] = kept[c] if c in kept else rest * weights[c] / total
    return found_NV / found_NV.sum(-1, keepdims=True)


kept_classes = st.integers(0, VOCABULARY)


@given(
    seed=st.integers(0, 2**32 - 1), rows=st.integers(0, 5), kept=st.tuples(*[kept_classes] * 2),
    ragged=st.booleans(), tails=st.tuples(st.booleans(), st.booleans()),
)  # fmt: skip
def test_it_is_that_of_the_dense_distributions(
    seed: int, rows: int, kept: tuple[int, int], ragged: bool, tails: tuple[bool, bool]
) -> None:
    a, b = (record(seed + i, rows, kept[i], ragged, tails[i]) for i in (0, 1))
    p_NV, q_NV = dense(a), dense(b)
    expected_N = (p_NV * np.log(p_NV / q_NV)).sum(-1)
    np.testing.assert_allclose(divergence(a, b, VOCABULARY), expected_N, rtol=1e-5, atol=1e-6)


@given(seed=st.integers(0, 2**32 - 1), kept=kept_classes, tail=st.booleans())
def test_of_itself_it_is_nothing(seed: int, kept: int, tail: bool) -> None:
    a = record(seed, 4, kept, True, tail)
    np.testing.assert_allclose(divergence(a, a, VOCABULARY), 0, atol=1e-12)


@pytest.mark.parametrize("tail", [False, True])
def test_what_b_rules_out_is_infinite(tail: bool) -> None:
    a = record(0, 3, 4, False, tail)
    b = record(1, 3, 4, False, tail)
    b.logp_NC[1, -1] = -np.inf
    kl_N = divergence(a, b, VOCABULARY)
    assert np.isinf(kl_N).tolist() == [False, True, False]
    assert np.isfinite(divergence(b, a, VOCABULARY)).all()


@pytest.mark.parametrize("tail", [False, True])
def test_blocks_make_no_difference(tail: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = record(0, 50, 3, True, tail), record(1, 50, 4, True, False)
    whole_N = divergence(a, b, VOCABULARY)
    monkeypatch.setattr(module, "BUDGET", 20)
    assert np.array_equal(divergence(a, b, VOCABULARY), whole_N)


def test_the_order_of_classes_makes_no_difference() -> None:
    a, b = record(0, 20, 4, False, False), record(1, 20, 5, False, False)
    turned = replace(
        b, logp_NC=np.roll(b.logp_NC[:, :-1], 1, axis=1), ids_NK=np.roll(b.ids_NK, 1, axis=1)
    )
    turned = replace(turned, logp_NC=np.concatenate([turned.logp_NC, b.logp_NC[:, -1:]], axis=1))
    expected_N = divergence(a, b, VOCABULARY)
    np.testing.assert_allclose(divergence(a, turned, VOCABULARY), expected_N, rtol=1e-12)
