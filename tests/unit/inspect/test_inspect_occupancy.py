"""Occupancy in numpy, against torch's and against what it must sum to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdcache.codec import LatticeRecord
from kdcache.inspect.occupancy import occupancy
from kdcache.inspect.paths import dense, full_sum
from kdcache.lattice import forward_backward, node_occupancy
from kdcache.testing.records import random_band, random_lattice


@given(st.integers(0, 2**31), st.integers(1, 9), st.integers(0, 5))
def test_it_is_torch_s(seed: int, frames: int, labels: int) -> None:
    lattice = random_lattice(np.random.default_rng(seed), frames, labels, 2)
    if not np.isfinite(full_sum(lattice)):
        assert not occupancy(lattice).any()
        return
    blank, label = (torch.from_numpy(x)[None] for x in dense(lattice))
    found = forward_backward(blank, label, torch.tensor([frames]), torch.tensor([labels]))
    np.testing.assert_allclose(occupancy(lattice), node_occupancy(found)[0], atol=1e-9)


@given(st.integers(0, 2**31))
def test_every_path_crosses_each_diagonal_once(seed: int) -> None:
    gamma_TU = occupancy(random_band(np.random.default_rng(seed)))
    if not gamma_TU.any():
        return
    frames, columns = gamma_TU.shape
    t, u = np.indices(gamma_TU.shape)
    sums = np.bincount((t + u).ravel(), gamma_TU.ravel())
    np.testing.assert_allclose(sums, np.ones(frames + columns - 1), atol=1e-9)


def test_a_band_has_nothing_outside() -> None:
    lattice = random_lattice(np.random.default_rng(0), 6, 4, 1)
    starts = np.array([0, 0, 1, 1, 2, 2], np.int32)
    rows = [lattice.logp_TSC[t, s : s + 3] for t, s in enumerate(starts)]
    ids = [lattice.ids_TSK[t, s : s + 3] for t, s in enumerate(starts)]
    gamma_TU = occupancy(LatticeRecord(np.stack(rows), np.stack(ids), starts))
    outside_TU = np.abs(np.arange(5) - (starts[:, None] + 1)) > 1
    assert outside_TU.sum() == 12
    assert not gamma_TU[outside_TU].any()
    assert gamma_TU[0, 0] == pytest.approx(1.0)
    assert gamma_TU[-1, -1] == pytest.approx(1.0)


def test_without_a_path_there_is_none() -> None:
    logp_TSC = np.full((3, 2, 3), -np.inf, np.float32)
    assert not occupancy(LatticeRecord(logp_TSC, np.zeros((3, 2, 0), np.int32))).any()
