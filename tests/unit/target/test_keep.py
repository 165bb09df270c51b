"""As many classes a row as its mass asks for, and what leaving the others loses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcache.codec import TailModel
from kdcache.errors import ConfigError
from kdcache.target.collapse import split
from kdcache.target.keep import Keep, keep_classes, parse_keep

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


def logp_of(rows: int, vocabulary: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(rows, vocabulary, generator=generator)).log_softmax(-1)


def test_a_number_of_classes_is_the_plain_split() -> None:
    logp = logp_of(9, 12)
    kept = keep_classes(logp, Keep(4)).split
    plain = split(logp, 4, torch.full((9,), 12))
    for found, expected in zip(
        (kept.logp_XK, kept.ids_XK, kept.rest_X, kept.spread_X),
        (plain.logp_XK, plain.ids_XK, plain.rest_X, plain.spread_X),
        strict=True,
    ):
        assert torch.equal(found, expected)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    st.integers(2, 40),
    st.integers(0, 10**6),
    st.one_of(st.none(), st.floats(0.01, 1)),
    st.one_of(st.none(), st.floats(0, 0.9)),
    st.one_of(st.just("all"), st.integers(1, 40)),
)
def test_every_row_keeps_what_the_strictest_rule_asks_for(
    vocabulary: int, seed: int, top_p: float | None, min_p: float | None, top_k: Any
) -> None:
    logp = logp_of(5, vocabulary, seed)
    kept = keep_classes(logp, Keep(top_k, top_p, min_p)).split
    for n in range(5):
        p = np.sort(logp[n].exp().double().numpy())[::-1]
        count = vocabulary if top_k == "all" else min(top_k, vocabulary)
        if min_p is not None:
            count = min(count, int((logp[n].exp() >= min_p).sum()))
        if top_p is not None:
            count = min(count, int((p.cumsum() - p < top_p).sum()))
        count = max(count, 1)
        ids = kept.ids_XK[n][kept.ids_XK[n] >= 0]
        assert len(ids) == count
        assert torch.equal(kept.logp_XK[n, :count], logp[n, ids])
        assert torch.isneginf(kept.logp_XK[n, count:]).all()
        others = logp[n].index_fill(0, ids, -torch.inf).logsumexp(0)
        torch.testing.assert_close(kept.rest_X[n], others.clamp(max=0.0))


def test_a_certain_row_keeps_one_class_and_a_uniform_one_many() -> None:
    rows = torch.full((2, 100), -20.0)
    rows[0, 7], rows[1] = 0.0, 0.0
    kept = keep_classes(rows.log_softmax(-1), Keep("all", top_p=0.895)).split
    assert (kept.ids_XK >= 0).sum(-1).tolist() == [1, 90]


@pytest.mark.parametrize("tail", [False, True])
def test_the_spread_is_the_divergence_of_what_a_reader_sees(tail: bool) -> None:
    vocabulary, logp = 15, logp_of(8, 15)
    logp[3, 4:9] = -torch.inf
    logp[3] = logp[3].log_softmax(-1)
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 3, vocabulary)
    model = TailModel.from_weights(rng.random((3, vocabulary)), rows) if tail else None
    kept = keep_classes(logp, Keep("all", min_p=0.05), model).split
    for n in range(8):
        ids = kept.ids_XK[n][kept.ids_XK[n] >= 0].numpy()
        weight = np.ones(vocabulary)
        if model is not None:
            weight = np.exp(model.log_weights[rows[ids[0]]].astype(np.float64))
        weight[ids] = 0.0
        p = logp[n].double().exp().numpy()
        spread = np.exp(float(kept.rest_X[n])) * weight / weight.sum()
        left = (p > 0) & (weight > 0)
        expected = (p[left] * np.log(p[left] / spread[left])).sum()
        assert float(kept.spread_X[n]) == pytest.approx(expected, abs=1e-6)


def test_nothing_left_loses_nothing(normal: Callable[..., Tensor]) -> None:
    model = TailModel.from_weights(np.ones((1, 6)), np.zeros(6, int))
    for tail in (None, model):
        kept = keep_classes(normal(4, 6).log_softmax(-1), Keep("all", min_p=0.0), tail).split
        assert torch.isneginf(kept.rest_X).all()
        assert kept.spread_X.tolist() == [0.0] * 4


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ((0, None, None), "top_k is 0; expected an integer of at least 1"),
        (("most", None, None), "top_k is 'most'"),
        ((8, 0.0, None), "top_p is 0.0; expected a probability above 0 and at most 1"),
        ((8, True, None), "top_p is True"),
        ((8, None, 1.0), "min_p is 1.0; expected a probability at least 0 and below 1"),
        ((8, None, "low"), "min_p is 'low'"),
    ],
)
def test_rules_out_of_range(rules: tuple[Any, Any, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_keep(*rules)
