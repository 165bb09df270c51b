"""Bytes of sparse weights: the cheapest of three ways, and right at its borders."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from kdcache.score.report import ScoreReport
from kdcache.score.size import tensor_bytes, weight_size
from kdcache.score.text import score_lines
from kdcache.score.wer import WordErrorRate


def sparse(rows: int, columns: int, kept: int) -> torch.Tensor:
    flat = torch.zeros(rows * columns)
    flat[:kept] = 1.0
    return flat.view(rows, columns)


def test_a_dense_matrix_is_stored_whole() -> None:
    assert tensor_bytes(torch.ones(10, 20)) == 800


def test_at_half_its_zeros_a_bit_a_weight() -> None:
    assert tensor_bytes(sparse(64, 64, 2048)) == 64 * 64 // 8 + 2048 * 4


def test_with_hardly_a_weight_left_its_column() -> None:
    assert tensor_bytes(sparse(4, 8000, 7)) == 7 * 6 + 4 * 5
    assert tensor_bytes(sparse(1, 70_000, 7)) == 7 * 8 + 4 * 2


def test_vectors_are_stored_whole() -> None:
    assert tensor_bytes(torch.zeros(100)) == 400
    assert tensor_bytes(torch.zeros(0, 4)) == 0


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 1600))
def test_never_more_than_dense_and_never_less_than_the_values(r: int, c: int, kept: int) -> None:
    kept = min(kept, r * c)
    assert kept * 4 <= tensor_bytes(sparse(r, c, kept)) <= r * c * 4


def test_a_network() -> None:
    layer = nn.Linear(8, 4)
    with torch.no_grad():
        layer.weight.fill_(1.0)[0] = 0.0
    size = weight_size(layer)
    assert size.sparsity == 0.25
    assert size.sparse_bytes == min(128, 4 + 24 * 4) + 4 * 4


def report(sparsity: float) -> ScoreReport:
    rate = WordErrorRate(0.1, 0.05, 0.2, 100, 5, 3, 2)
    return ScoreReport(rate, 7, 0.5, 1000, 4000, sparsity, 900, 0.01, 16, 2, {})


def test_pruned_weights_are_told_where_there_are_any() -> None:
    (line,) = (line for line in score_lines(report(0.895)) if line.startswith("pruned"))
    assert line == "pruned       89.5% zeros; without them 900 bytes"
    assert not any("zeros" in line for line in score_lines(report(0.001)))
