from __future__ import annotations

import numpy as np
import pytest

from kdcache.codec.divergence import divergence
from kdcache.target.fidelity import fidelity_of, posterior_losses, vector_fidelity


def _distributions(rows: int, classes: int, seed: int) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(0.0, 2.0, (rows, classes))
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def test_divergence_against_the_definition() -> None:
    p, q = _distributions(20, 5, 0), _distributions(20, 5, 1)
    expected = (np.exp(p) * (p - q)).sum(-1)
    np.testing.assert_allclose(divergence(p, q), expected, atol=1e-12)
    assert divergence(p.astype(np.float32), q.astype(np.float32)).dtype == np.float64


def test_a_distribution_loses_nothing_to_itself() -> None:
    p = _distributions(30, 7, 2).astype(np.float32)
    assert np.array_equal(divergence(p, p), np.zeros(30))


def test_float32_rounding_is_not_taken_for_loss() -> None:
    p = _distributions(30, 7, 2).astype(np.float32)
    assert float(divergence(p, p + np.float32(1e-3)).max()) < 1e-8


def test_impossible_classes() -> None:
    half, sure = np.log([[0.5, 0.5]]), np.array([[0.0, -np.inf]])
    assert divergence(sure, half).tolist() == pytest.approx([np.log(2)])
    assert divergence(sure, sure).tolist() == [0.0]
    assert divergence(half, sure).tolist() == [np.inf]


def test_mean_and_max_with_and_without_the_rest() -> None:
    p, q = _distributions(6, 4, 3).reshape(2, 3, 4), _distributions(6, 4, 4).reshape(2, 3, 4)
    spread = np.arange(6.0).reshape(2, 3)
    kl = (np.exp(p) * (p - q)).sum(-1)
    got = fidelity_of(posterior_losses(p, q, spread))
    assert got == pytest.approx(
        {
            "kl_mean": kl.mean(),
            "kl_max": kl.max(),
            "kl_full_mean": (kl + spread).mean(),
            "kl_full_max": (kl + spread).max(),
        }
    )
    assert all(type(value) is float for value in got.values())


def test_vectors() -> None:
    values = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    decoded = np.array([[1.0, 2.5], [2.0, 4.0]], np.float32)
    assert vector_fidelity(values, decoded) == {"error_mean": 0.375, "error_max": 1.0}
