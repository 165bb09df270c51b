"""Alignments in numpy, against those in torch and against all that there are."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdcache.codec import LatticeRecord
from kdcache.inspect.paths import best_path, ctc_greedy, ctc_path, dense, full_sum
from kdcache.lattice import rnnt_loss
from kdcache.lattice.viterbi import best_path as torch_best_path
from kdcache.testing.records import random_lattice


def cut(lattice: LatticeRecord, starts: list[int], width: int) -> LatticeRecord:
    """The band of a whole lattice."""
    rows = [lattice.logp_TSC[t, s : s + width] for t, s in enumerate(starts)]
    ids = [lattice.ids_TSK[t, s : s + width] for t, s in enumerate(starts)]
    return LatticeRecord(np.stack(rows), np.stack(ids), np.array(starts, np.int32))


@given(st.integers(0, 2**31), st.integers(1, 9), st.integers(0, 5))
def test_it_is_torch_s(seed: int, frames: int, labels: int) -> None:
    lattice = random_lattice(np.random.default_rng(seed), frames, labels, 2)
    blank, label = (torch.from_numpy(x)[None] for x in dense(lattice))
    lengths = torch.tensor([frames]), torch.tensor([labels])
    expected = torch_best_path(blank, label, *lengths)
    frames_U, logp = best_path(lattice)
    if np.isfinite(logp):
        assert frames_U.tolist() == expected.frames_BU[0].tolist()
        assert logp == pytest.approx(float(expected.log_prob_B[0]))
    assert full_sum(lattice) >= logp - 1e-9


@given(st.integers(0, 2**31), st.integers(1, 5), st.integers(0, 3))
def test_the_full_sum_is_that_of_all_paths(seed: int, frames: int, labels: int) -> None:
    lattice = random_lattice(np.random.default_rng(seed), frames, labels, 0)
    blank_TU, label_TU = dense(lattice)
    total = -np.inf
    for at in itertools.combinations_with_replacement(range(frames), labels):
        path, u = 0.0, 0
        for t in range(frames):
            while u < labels and at[u] == t:
                path, u = path + label_TU[t, u], u + 1
            path += blank_TU[t, u]
        total = np.logaddexp(total, path)
    assert full_sum(lattice) == pytest.approx(total)


def test_the_full_sum_is_the_loss() -> None:
    rng = np.random.default_rng(3)
    logits = torch.from_numpy(rng.normal(size=(1, 6, 4, 9)))
    tokens = torch.tensor([[3, 1, 7]])
    logp = logits.log_softmax(-1)[0].numpy()
    labels = np.append(tokens[0].numpy(), 0)
    label_TU = np.take_along_axis(logp, labels[None, :, None], axis=2)[..., 0]
    logp_TSC = np.stack([logp[..., 0], label_TU, np.zeros_like(label_TU)], axis=-1)
    lattice = LatticeRecord(logp_TSC, np.zeros((6, 4, 0), np.int32))
    loss = rnnt_loss(logits, tokens, torch.tensor([6]), torch.tensor([3]), blank=0)
    assert full_sum(lattice) == pytest.approx(-float(loss.sum()))


def test_a_band_is_a_lower_bound() -> None:
    lattice = random_lattice(np.random.default_rng(0), 6, 4, 1)
    band = cut(lattice, [0, 0, 1, 1, 2, 2], 3)
    assert full_sum(band) < full_sum(lattice)
    assert best_path(band)[1] <= best_path(lattice)[1]
    inside = full_sum(cut(lattice, [0] * 6, 5))
    assert inside == pytest.approx(full_sum(lattice))


def all_ctc(logp: np.ndarray, tokens: list[int], blank: int) -> dict[tuple[int, ...], float]:
    """log P of every frame-wise sequence that says the tokens."""
    found = {}
    for path in itertools.product(range(logp.shape[1]), repeat=len(logp)):
        runs = [key for key, _ in itertools.groupby(path) if key != blank]
        if runs == tokens:
            found[path] = float(logp[np.arange(len(logp)), path].sum())
    return found


@given(st.integers(0, 2**31), st.lists(st.integers(1, 2), max_size=3), st.integers(1, 5))
def test_ctc_is_the_best_of_all(seed: int, tokens: list[int], frames: int) -> None:
    logits = np.random.default_rng(seed).normal(size=(frames, 3))
    logp = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    paths = all_ctc(logp, tokens, 0)
    firsts, score = ctc_path(logp, tokens, 0)
    if not paths:
        assert score == -np.inf
        return
    best = max(paths, key=lambda path: paths[path])
    assert score == pytest.approx(paths[best])
    starts = [t for t in range(frames) if best[t] != 0 and (t == 0 or best[t] != best[t - 1])]
    assert firsts.tolist() == starts


def test_what_ctc_says_by_itself() -> None:
    logp = np.log(np.eye(4)[[0, 2, 2, 0, 2, 3, 3, 0]] + 1e-9)
    assert ctc_greedy(logp, 0) == [(1, 2), (4, 2), (5, 3)]
