from __future__ import annotations

import brute_force
import pytest
import torch
from lattices import Lattice, random_lattice

from kdcache.lattice import best_path, forward_backward, node_log_probs


@pytest.mark.parametrize("frames", range(1, 5))
@pytest.mark.parametrize("labels", range(4))
def test_is_the_best_of_every_path(frames: int, labels: int) -> None:
    lattice = random_lattice([frames], [labels], seed=frames * 10 + labels)
    blank, label = node_log_probs(lattice.logits, lattice.labels, 0)
    found = best_path(blank, label, lattice.frames, lattice.lengths)
    path, score = brute_force.best(blank[0], label[0])
    assert tuple(found.frames_BU[0].tolist()) == path
    assert float(found.log_prob_B) == pytest.approx(score, rel=1e-12)


def test_rows_of_a_batch_are_what_they_are_alone(ragged: Lattice) -> None:
    blank, label = node_log_probs(ragged.logits, ragged.labels, 0)
    together = best_path(blank, label, ragged.frames, ragged.lengths)
    for row, (frames, length) in enumerate(
        zip(ragged.frames.tolist(), ragged.lengths.tolist(), strict=True)
    ):
        part = (row, slice(0, frames), slice(0, length + 1))
        path, score = brute_force.best(blank[part], label[part])
        assert tuple(together.frames_BU[row, :length].tolist()) == path
        assert (together.frames_BU[row, length:] == -1).all()
        assert float(together.log_prob_B[row]) == pytest.approx(score, rel=1e-12)


def test_is_no_more_probable_than_all_paths_together(ragged: Lattice) -> None:
    arcs = (*node_log_probs(ragged.logits, ragged.labels, 0), ragged.frames, ragged.lengths)
    assert (best_path(*arcs).log_prob_B <= forward_backward(*arcs).log_likelihood_B + 1e-12).all()


def test_of_equal_paths_the_earliest_is_taken() -> None:
    table = torch.zeros(1, 4, 3)
    found = best_path(table, table, torch.tensor([4]), torch.tensor([2]))
    assert found.frames_BU.tolist() == [[0, 0]]


def test_labels_wait_for_the_frame_that_says_them() -> None:
    blank, label = torch.full((1, 5, 3), -1.0), torch.full((1, 5, 3), -20.0)
    label[0, 1, 0] = label[0, 3, 1] = 0.0
    found = best_path(blank, label, torch.tensor([5]), torch.tensor([2]))
    assert found.frames_BU.tolist() == [[1, 3]]
    assert float(found.log_prob_B) == pytest.approx(-5.0)


def test_frames_never_decrease() -> None:
    lattice = random_lattice([40, 25], [30, 28], seed=3)
    blank, label = node_log_probs(lattice.logits, lattice.labels, 0)
    found = best_path(blank, label, lattice.frames, lattice.lengths)
    for row, (frames, length) in enumerate(zip(lattice.frames, lattice.lengths, strict=True)):
        path = found.frames_BU[row, :length]
        assert (path[1:] >= path[:-1]).all()
        assert (path >= 0).all()
        assert (path < frames).all()
