from __future__ import annotations

import pickle

import brute_force
import pytest
import torch
from lattices import Lattice, random_lattice
from torch import Tensor

from kdcache.errors import InputError
from kdcache.lattice import (
    arc_occupancy,
    forward_backward,
    node_log_probs,
    node_mask,
    node_occupancy,
)

SIZES = [(t, u) for t in range(1, 5) for u in range(4)]


def arcs_of(lattice: Lattice) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    blank, label = node_log_probs(
        lattice.logits, lattice.labels, 0, lattice.frames, lattice.lengths
    )
    return blank, label, lattice.frames, lattice.lengths


@pytest.mark.parametrize(("frames", "labels"), SIZES)
def test_likelihood_is_the_sum_over_every_path(frames: int, labels: int) -> None:
    arcs = arcs_of(random_lattice([frames], [labels], seed=frames * 10 + labels))
    expected = brute_force.log_likelihood(arcs[0][0], arcs[1][0])
    assert float(forward_backward(*arcs).log_likelihood_B) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("frames", "labels"), SIZES)
def test_alpha_is_the_sum_over_every_way_to_a_node(frames: int, labels: int) -> None:
    arcs = arcs_of(random_lattice([frames], [labels], seed=frames * 10 + labels))
    alpha = forward_backward(*arcs).alpha_BTU[0]
    for t in range(frames):
        for u in range(labels + 1):
            expected = brute_force.prefix_log_prob(arcs[0][0], arcs[1][0], (t, u))
            assert float(alpha[t, u]) == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize(("frames", "labels"), SIZES)
def test_arc_occupancy_is_the_share_of_paths(frames: int, labels: int) -> None:
    arcs = arcs_of(random_lattice([frames], [labels], seed=frames * 10 + labels))
    blank, label = arc_occupancy(*arcs, forward_backward(*arcs))
    expected_blank, expected_label = brute_force.arc_posteriors(arcs[0][0], arcs[1][0])
    torch.testing.assert_close(blank[0], expected_blank)
    torch.testing.assert_close(label[0], expected_label)


def test_rows_of_a_batch_are_what_they_are_alone(ragged: Lattice) -> None:
    arcs = arcs_of(ragged)
    together = forward_backward(*arcs)
    for row, (frames, labels) in enumerate(zip(ragged.frames, ragged.lengths, strict=True)):
        part = (slice(row, row + 1), slice(0, int(frames)), slice(0, int(labels) + 1))
        one = slice(row, row + 1)
        alone = forward_backward(arcs[0][part], arcs[1][part], arcs[2][one], arcs[3][one])
        assert torch.equal(together.alpha_BTU[part], alone.alpha_BTU)
        assert torch.equal(together.beta_BTU[part], alone.beta_BTU)
        assert torch.equal(together.log_likelihood_B[one], alone.log_likelihood_B)


def test_alpha_and_beta_give_the_same_likelihood(ragged: Lattice) -> None:
    found = forward_backward(*arcs_of(ragged))
    torch.testing.assert_close(found.beta_BTU[:, 0, 0], found.log_likelihood_B)


def test_padding_is_minus_infinity_and_has_no_occupancy(ragged: Lattice) -> None:
    arcs = arcs_of(ragged)
    found = forward_backward(*arcs)
    padding = ~node_mask(ragged.frames, ragged.lengths, *ragged.logits.shape[1:3])
    assert padding.any()
    assert found.alpha_BTU[padding].isneginf().all()
    assert found.beta_BTU[padding].isneginf().all()
    for occupancy in (node_occupancy(found), *arc_occupancy(*arcs, found)):
        assert (occupancy[padding] == 0).all()


def test_every_diagonal_is_passed_once(ragged: Lattice) -> None:
    gamma = node_occupancy(forward_backward(*arcs_of(ragged)))
    for row, (frames, labels) in enumerate(zip(ragged.frames, ragged.lengths, strict=True)):
        for d in range(int(frames) + int(labels)):
            on_diagonal = [
                gamma[row, d - u, u] for u in range(int(labels) + 1) if 0 <= d - u < int(frames)
            ]
            assert float(sum(on_diagonal)) == pytest.approx(1.0, abs=1e-12)


def test_node_occupancy_is_the_sum_of_its_arcs(ragged: Lattice) -> None:
    arcs = arcs_of(ragged)
    found = forward_backward(*arcs)
    blank, label = arc_occupancy(*arcs, found)
    torch.testing.assert_close(node_occupancy(found), blank + label)
    torch.testing.assert_close(label.sum((1, 2)), ragged.lengths.double())
    torch.testing.assert_close(blank.sum((1, 2)), ragged.frames.double())


def test_what_lies_in_padding_changes_nothing(ragged: Lattice) -> None:
    blank, label, frames, lengths = arcs_of(ragged)
    padding = ~node_mask(frames, lengths, *blank.shape[1:])
    spoilt = blank.masked_fill(padding, float("nan")), label.masked_fill(padding, float("nan"))
    clean, dirty = forward_backward(*arcs_of(ragged)), forward_backward(*spoilt, frames, lengths)
    for before, after in zip(clean, dirty, strict=True):
        assert torch.equal(before, after)


def test_an_impossible_label_on_one_path_leaves_the_others() -> None:
    blank, label, frames, lengths = arcs_of(random_lattice([3], [2]))
    label = label.clone()
    label[0, 1, 0] = -torch.inf
    found = forward_backward(blank, label, frames, lengths)
    expected = brute_force.log_likelihood(blank[0], label[0])
    assert float(found.log_likelihood_B) == pytest.approx(expected, rel=1e-12)


def test_an_impossible_label_on_every_path_is_minus_infinity() -> None:
    blank, label, frames, lengths = arcs_of(random_lattice([3], [2]))
    label = label.clone()
    label[0, :, 1] = -torch.inf
    assert forward_backward(blank, label, frames, lengths).log_likelihood_B.isneginf().all()


def test_nan_stays_in_its_utterance(ragged: Lattice) -> None:
    blank, label, frames, lengths = arcs_of(ragged)
    blank = blank.clone()
    blank[0, 1, 1] = float("nan")
    found = forward_backward(blank, label, frames, lengths).log_likelihood_B
    assert found.isnan().tolist() == [True, False, False, False, False]


def test_float32_tables_of_400_labels_lose_no_digits() -> None:
    lattice = random_lattice([500], [400], vocab=6)
    blank, label, frames, lengths = arcs_of(lattice)
    exact = forward_backward(blank, label, frames, lengths)
    coarse = forward_backward(blank.float(), label.float(), frames, lengths)
    assert float(exact.log_likelihood_B) < -1000
    torch.testing.assert_close(coarse.log_likelihood_B, exact.log_likelihood_B, rtol=1e-7, atol=0.0)
    torch.testing.assert_close(node_occupancy(coarse), node_occupancy(exact), rtol=0.0, atol=1e-4)


@pytest.mark.parametrize(
    ("frames", "lengths", "said"),
    [
        ([5], [2], r"frames_B\[0\] is 5; expected 1 to 4"),
        ([0], [2], r"frames_B\[0\] is 0"),
        ([4], [4], r"label_lengths_B\[0\] is 4; expected 0 to 3"),
        ([4], [-1], r"label_lengths_B\[0\] is -1"),
        ([4, 4], [3], r"frames_B has shape \(2,\)"),
        ([4], [3, 3], r"label_lengths_B has shape \(2,\)"),
    ],
)
def test_lengths_that_do_not_fit_are_named(
    frames: list[int], lengths: list[int], said: str
) -> None:
    table = torch.zeros(1, 4, 4)
    with pytest.raises(InputError, match=said) as caught:
        forward_backward(table, table, torch.tensor(frames), torch.tensor(lengths))
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
