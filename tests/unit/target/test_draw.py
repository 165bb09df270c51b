"""Random draws: without bias, and the same on every machine."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcache.target.draw import draw_classes, generator_for, record_of_draws
from kdcache.target.posterior import sample_rows


def shares(logits: torch.Tensor, samples: int, seed: str, vocabulary: int) -> np.ndarray:
    record, _ = sample_rows(logits, samples, generator_for("k", seed))
    dense = np.zeros((len(logits), vocabulary))
    rows, slots = np.nonzero(record.ids_NK >= 0)
    dense[rows, record.ids_NK[rows, slots]] = np.exp(record.logp_NC[rows, slots])
    return dense


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.integers(2, 12), st.integers(0, 10**6))
def test_shares_are_right_on_average(vocabulary: int, seed: int) -> None:
    """The mean of S·M draws is within 5 standard errors of each class."""
    generator = torch.Generator().manual_seed(seed)
    logits = (2 * torch.randn(vocabulary, generator=generator)).expand(400, vocabulary)
    q = logits[0].double().softmax(-1).numpy()
    mean = shares(logits, 50, str(seed), vocabulary).mean(0)
    assert (np.abs(mean - q) <= 5 * np.sqrt(q * (1 - q) / 20_000) + 1e-4).all()


def test_the_gradient_of_a_student_is_right_on_average() -> None:
    """That of the cross entropy by a student's logits is p − q; top-k has no such mean."""
    logits = torch.tensor([2.0, 1.5, 1.0, 0.5, 0.0]).expand(2000, 5)
    q = logits[0].double().softmax(-1).numpy()
    drawn = shares(logits, 20, "x", 5).mean(0)
    top = np.where(np.arange(5) < 2, q, 0)
    assert np.abs(drawn - q).max() < 0.01 < np.abs(top / top.sum() - q).max()


def test_classes_of_no_probability_are_never_drawn() -> None:
    logits = torch.zeros(300, 5)
    logits[:, [0, 2, 4]] = -torch.inf
    ids = draw_classes(logits.log_softmax(-1), 20, np.random.default_rng(0))
    assert set(np.unique(ids)) == {1, 3}


def test_a_certain_row_needs_one_class() -> None:
    logits = torch.full((3, 1000), -50.0)
    logits[:, 999] = 50.0
    record, logq = sample_rows(logits, 64, generator_for("k", "u"))
    assert record.ids_NK.tolist() == [[999]] * 3
    assert record.logp_NC.tolist() == [[0.0, -np.inf]] * 3
    assert logq[:, 0] == pytest.approx(0.0)


def test_counts_are_sorted_and_lose_nothing() -> None:
    ids = np.array([[3, 1, 1, 7], [2, 2, 2, 2], [5, 0, 0, 5]])
    logp = np.log(ids + 1).astype(np.float32)
    record, logq = record_of_draws(ids, logp)
    assert record.ids_NK.tolist() == [[1, 3, 7], [2, -1, -1], [0, 5, -1]]
    np.testing.assert_allclose(
        np.exp(record.logp_NC), [[0.5, 0.25, 0.25, 0], [1, 0, 0, 0], [0.5, 0.5, 0, 0]]
    )
    np.testing.assert_allclose(np.exp(logq), [[2, 4, 8, 0], [3, 0, 0, 0], [1, 6, 0, 0]])


@pytest.mark.parametrize("budget", [1, 40, 2**20])
def test_blocks_change_nothing(budget: int) -> None:
    logits = torch.randn(30, 20, generator=torch.Generator().manual_seed(0))
    whole, _ = sample_rows(logits, 8, generator_for("k", "u"))
    parts, _ = sample_rows(logits, 8, generator_for("k", "u"), budget)
    assert np.array_equal(whole.ids_NK, parts.ids_NK)
    assert np.array_equal(whole.logp_NC, parts.logp_NC)


def test_the_seed_is_the_utterance_and_the_target() -> None:
    numbers = generator_for("encoder_logits", "u1").random(3).tolist()
    assert numbers == [0.3410923231612262, 0.9629779160605192, 0.20310945071483333]
    assert numbers != generator_for("encoder_logits", "u2").random(3).tolist()
    assert numbers != generator_for("decoder_logits", "u1").random(3).tolist()
