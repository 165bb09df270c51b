from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import Tensor

from kdcache.errors import TeacherOutputError
from kdcache.target.collapse import ABSENT, likeliest, log_probabilities, split

if TYPE_CHECKING:
    from collections.abc import Callable

INF = float("inf")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_log_probabilities_are_float32(normal: Callable[..., Tensor], dtype: torch.dtype) -> None:
    logits_XV = normal(3, 7, 11).to(dtype)
    logp_XV = log_probabilities(logits_XV)
    assert logp_XV.dtype is torch.float32
    expected = logits_XV.double().log_softmax(-1)
    torch.testing.assert_close(logp_XV.double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("bad", [float("nan"), INF])
def test_nan_and_infinity_are_refused(normal: Callable[..., Tensor], bad: float) -> None:
    logits = normal(4, 6)
    logits[2, 3] = bad
    with pytest.raises(TeacherOutputError, match="NaN or infinite logits"):
        log_probabilities(logits)


def test_a_row_without_any_class_is_refused() -> None:
    with pytest.raises(TeacherOutputError, match="NaN or infinite logits"):
        log_probabilities(torch.full((2, 3), -INF))


def test_an_impossible_class_is_allowed() -> None:
    logp = log_probabilities(torch.tensor([0.0, -INF, 0.0]))
    assert logp.tolist() == pytest.approx([np.log(0.5), -INF, np.log(0.5)])


def test_likeliest_breaks_ties_by_id() -> None:
    values = torch.tensor(
        [[0.0, 2.0, 2.0, -1.0, 2.0], [-0.0, 0.0, -0.0, 0.0, 0.0], [-INF, -3.0, -3.0, -INF, -5.0]]
    )
    assert likeliest(values, 5).tolist() == [
        [1, 2, 4, 0, 3],
        [0, 1, 2, 3, 4],
        [1, 2, 4, 0, 3],
    ]


@pytest.mark.parametrize("vocabulary", [2, 33, 5000])
def test_likeliest_is_a_stable_sort(vocabulary: int) -> None:
    generator = torch.Generator().manual_seed(1)
    # Half precision: thousands of classes share a few hundred values.
    values = torch.randn((20, vocabulary), generator=generator).bfloat16().float()
    count = min(40, vocabulary)
    expected = values.sort(dim=-1, descending=True, stable=True).indices[:, :count]
    assert torch.equal(likeliest(values, count), expected)


@pytest.mark.parametrize("count", [0, 1, 4, 11])
def test_split_against_sorting(normal: Callable[..., Tensor], count: int) -> None:
    logp = log_probabilities(normal(6, 11))
    got = split(logp, count, torch.full((6,), 11))
    for row in range(6):
        order = sorted(range(11), key=lambda i: -logp[row, i])
        rest = logp[row].double().exp()[order[count:]].sum()
        assert got.ids_XK[row].tolist() == order[:count]
        assert torch.equal(got.logp_XK[row], logp[row, order[:count]])
        assert float(got.rest_X[row].double().exp()) == pytest.approx(float(rest), abs=1e-7)


def test_more_than_there_are() -> None:
    logp = log_probabilities(torch.tensor([[2.0, 1.0, 0.0]]))
    got = split(logp, 5, torch.tensor([3]))
    assert got.ids_XK.tolist() == [[0, 1, 2, ABSENT, ABSENT]]
    assert got.logp_XK[0, 3:].tolist() == [-INF, -INF]
    assert got.rest_X.tolist() == [-INF]
    assert got.spread_X.tolist() == [0.0]


def test_classes_that_are_spoken_for_are_not_kept() -> None:
    logp = torch.tensor([[-INF, -1.0, -INF, -2.0]])
    got = split(logp, 3, torch.tensor([2]))
    assert got.ids_XK.tolist() == [[1, 3, ABSENT]]
    assert got.rest_X.tolist() == [-INF]


def test_a_tiny_rest_is_not_cancelled() -> None:
    logits = torch.tensor([[40.0, 0.0, 0.0, 0.0]])
    got = split(log_probabilities(logits), 1, torch.tensor([4]))
    # 1 − p would be exactly 0 in float32.
    assert got.rest_X[0].item() == pytest.approx(np.log(3.0) - 40.0, abs=1e-4)


@pytest.mark.parametrize("count", [0, 2, 5, 9])
def test_spread_is_the_divergence_from_an_even_rest(
    normal: Callable[..., Tensor], count: int
) -> None:
    logp = log_probabilities(normal(8, 9, seed=3))
    got = split(logp, count, torch.full((8,), 9))
    for row in range(8):
        q = logp[row].double().exp().numpy()
        even = q.copy()
        left = [i for i in range(9) if i not in got.ids_XK[row].tolist()]
        if left:
            even[left] = q[left].sum() / len(left)
        expected = float((q * np.log(q / even)).sum())
        assert got.spread_X[row].item() == pytest.approx(expected, abs=1e-6)


def test_an_even_rest_loses_nothing() -> None:
    got = split(log_probabilities(torch.zeros(1, 50)), 3, torch.tensor([50]))
    assert got.spread_X.item() == pytest.approx(0.0, abs=1e-6)
    assert got.spread_X.item() >= 0.0
