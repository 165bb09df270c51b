"""The RNN-T loss in a band: every path that stays in it, and none other."""

from __future__ import annotations

import math

import brute_force
import pytest
import torch
from lattices import Lattice, random_lattice
from torch import Tensor

from kdcache.errors import InputError
from kdcache.lattice import (
    node_log_probs,
    rnnt_loss,
    rnnt_loss_banded,
    transducer_nll_banded,
)
from kdcache.lattice.band import least_width
from kdcache.lattice.banded import at_band, ids_over_lattice

SIZES = [(t, u) for t in range(1, 6) for u in range(4)]


def random_starts(frames: int, labels: int, width: int, generator: torch.Generator) -> list[int]:
    """Of a connected band: up by chance, but not beyond reach of the last column."""
    last, starts = labels + 1 - width, [0]
    for t in range(1, frames):
        low = max(starts[-1], last - (frames - 1 - t) * (width - 1))
        high = min(starts[-1] + width - 1, last)
        starts.append(int(torch.randint(low, high + 1, (), generator=generator)))
    return starts


def bands_of(lattice: Lattice, seed: int = 0) -> tuple[Tensor, int]:
    """Starts (B, T) of a random band of each utterance, and the greatest of their widths."""
    generator = torch.Generator().manual_seed(seed)
    starts = torch.zeros(lattice.logits.shape[:2], dtype=torch.int64)
    widest = 1
    for row, (t, u) in enumerate(
        zip(lattice.frames.tolist(), lattice.lengths.tolist(), strict=True)
    ):
        width = int(torch.randint(least_width(t, u), u + 2, (), generator=generator))
        starts[row, :t] = torch.tensor(random_starts(t, u, width, generator))
        widest = max(widest, width)
    return starts, widest


def banded(lattice: Lattice, starts: Tensor, width: int, reduction: str = "none") -> Tensor:
    logits = at_band(lattice.logits, starts, width)
    return rnnt_loss_banded(
        logits,
        starts,
        lattice.labels,
        lattice.frames,
        lattice.lengths,
        0,
        reduction,  # type: ignore[arg-type]
    )


def likelihood_within(blank_TU: Tensor, label_TU: Tensor, starts: Tensor, width: int) -> float:
    """Σ of the probabilities of all paths whose every node is in the band."""
    frames, columns = blank_TU.shape
    total = []
    for path in brute_force.paths(frames, columns - 1):
        nodes = [node for part in brute_force.path_arcs(path, frames) for node in part]
        if all(starts[t] <= u < starts[t] + width for t, u in nodes):
            total.append(math.exp(brute_force.path_log_prob(path, blank_TU, label_TU)))
    return math.fsum(total)


@pytest.mark.parametrize(("frames", "labels"), SIZES)
def test_value_is_minus_the_log_of_the_paths_in_the_band(frames: int, labels: int) -> None:
    lattice = random_lattice([frames], [labels], seed=frames * 10 + labels)
    arcs = node_log_probs(lattice.logits, lattice.labels, 0)
    generator = torch.Generator().manual_seed(0)
    for width in range(least_width(frames, labels), labels + 2):
        starts = torch.tensor([random_starts(frames, labels, width, generator)])
        expected = -math.log(likelihood_within(arcs[0][0], arcs[1][0], starts[0], width))
        assert float(banded(lattice, starts, width)) == pytest.approx(expected, rel=1e-12)


def test_all_columns_are_the_full_loss_in_value_and_gradient(ragged: Lattice) -> None:
    starts = torch.zeros(ragged.logits.shape[:2], dtype=torch.int64)
    logits = ragged.logits.clone().requires_grad_()
    rest = (ragged.labels, ragged.frames, ragged.lengths, 0, "none")
    # Rows of few labels do not need the columns of the others: starts of 0 say so.
    found = rnnt_loss_banded(logits, starts, *rest)  # type: ignore[arg-type]
    expected = rnnt_loss(logits, *rest)  # type: ignore[arg-type]
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    gradients = [torch.autograd.grad(x.sum(), logits)[0] for x in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=0, atol=0)


def test_is_never_less_than_the_full_loss(ragged: Lattice) -> None:
    full = rnnt_loss(*ragged.arguments, 0, "none")
    for seed in range(10):
        assert (banded(ragged, *bands_of(ragged, seed)) >= full - 1e-12).all()


def test_approaches_the_full_loss_as_the_band_widens() -> None:
    lattice = random_lattice([9], [6], vocab=8)
    losses = []
    for width in range(2, 8):
        # Nested: each start is the last one's, as far as the end allows.
        starts = torch.tensor([[min(t, 7 - width) for t in range(9)]])
        losses.append(float(banded(lattice, starts, width)))
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] == pytest.approx(float(rnnt_loss(*lattice.arguments, 0)), rel=1e-14)


@pytest.mark.parametrize("seed", range(3))
def test_gradcheck(ragged: Lattice, seed: int) -> None:
    small = random_lattice([3, 1, 2], [2, 1, 0], vocab=4, seed=seed)
    starts, width = bands_of(small, seed)
    logits = at_band(small.logits, starts, width).requires_grad_()

    def function(z: Tensor) -> Tensor:
        return rnnt_loss_banded(z, starts, *small.arguments[1:], 0, "none")

    assert torch.autograd.gradcheck(function, (logits,))


def test_gradcheck_by_arcs(ragged: Lattice) -> None:
    starts, width = bands_of(ragged)
    generator = torch.Generator().manual_seed(1)
    shape = (*starts.shape, width)
    arcs = [torch.randn(shape, generator=generator).double().requires_grad_() for _ in range(2)]

    def function(blank: Tensor, label: Tensor) -> Tensor:
        lengths = (ragged.frames, ragged.lengths)
        return transducer_nll_banded(blank, label, starts, *lengths, "none")

    assert torch.autograd.gradcheck(function, arcs)


@pytest.mark.parametrize("filler", [1e4, -torch.inf, float("nan")])
def test_padding_has_no_say_and_no_gradient(ragged: Lattice, filler: float) -> None:
    starts, width = bands_of(ragged, 4)
    widths = ragged.lengths + 1 - starts[torch.arange(5), ragged.frames - 1]
    assert int(widths.min()) < width
    logits = torch.nn.functional.pad(at_band(ragged.logits, starts, width), (0, 0, 0, 2, 0, 1))
    padded_starts = torch.nn.functional.pad(starts, (0, 1))
    clean = logits.clone().requires_grad_()
    for row, (frames, own) in enumerate(zip(ragged.frames, widths, strict=True)):
        logits[row, frames:] = filler
        logits[row, :, own:] = filler
        padded_starts[row, frames:] = -7
    logits.requires_grad_()
    losses = [
        rnnt_loss_banded(z, s, *ragged.arguments[1:], 0, "none")
        for z, s in ((clean, torch.nn.functional.pad(starts, (0, 1))), (logits, padded_starts))
    ]
    assert torch.equal(*losses)
    gradients = [
        torch.autograd.grad(x.sum(), z)[0] for x, z in zip(losses, (clean, logits), strict=True)
    ]
    assert torch.equal(*gradients)
    assert (gradients[1][:, -1] == 0).all()
    torch.testing.assert_close(losses[0], banded(ragged, starts, width))


def test_rows_of_a_batch_are_what_they_are_alone(ragged: Lattice) -> None:
    starts, width = bands_of(ragged, 2)
    together = banded(ragged, starts, width)
    for row, (frames, labels) in enumerate(
        zip(ragged.frames.tolist(), ragged.lengths.tolist(), strict=True)
    ):
        one = slice(row, row + 1)
        own = labels + 1 - int(starts[row, frames - 1])
        logits = at_band(ragged.logits[one, :frames, : labels + 1], starts[one, :frames], own)
        alone = rnnt_loss_banded(
            logits, starts[one, :frames], ragged.labels[one], ragged.frames[one],
            ragged.lengths[one], 0, "none",
        )  # fmt: skip
        torch.testing.assert_close(alone, together[one])


def test_nan_reaches_its_own_loss_only(ragged: Lattice) -> None:
    starts, width = bands_of(ragged)
    logits = at_band(ragged.logits, starts, width)
    logits[0, 2, 0, 1] = float("nan")
    found = rnnt_loss_banded(logits, starts, *ragged.arguments[1:], 0, "none")
    assert found.isnan().tolist() == [True, False, False, False, False]


def test_labels_impossible_in_the_band_are_infinite(ragged: Lattice) -> None:
    starts, width = bands_of(ragged)
    logits = at_band(ragged.logits, starts, width)
    logits[0, :, :, ragged.labels[0, 0]] = -torch.inf
    found = rnnt_loss_banded(logits, starts, *ragged.arguments[1:], 0, "none")
    assert found[0] == torch.inf
    assert found[1:].isfinite().all()


def test_400_labels_in_float32_keep_their_digits() -> None:
    lattice = random_lattice([450], [400], vocab=12)
    starts = torch.tensor([[min(t, 381) for t in range(450)]])
    exact = at_band(lattice.logits, starts, 20)
    values = [
        rnnt_loss_banded(z, starts, *lattice.arguments[1:], 0) for z in (exact.float(), exact)
    ]
    torch.testing.assert_close(values[0].double(), values[1], rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    "starts",
    [
        [[1, 1, 2]],  # does not hold the first node
        [[0, 2, 2]],  # windows of 2 that share no column
        [[0, 1, 0]],  # goes down
        [[0, 0, 3]],  # beyond the last column: a window of 1, after one that it does not share
        [[0, 0, 1]],  # a last window of 3, for logits of 2
        [[0, 0, 5]],  # no column left
    ],
)
def test_starts_that_are_no_band_are_named(starts: list[list[int]]) -> None:
    lattice = random_lattice([3], [3])
    logits = torch.zeros(1, 3, 2, 5)
    with pytest.raises(InputError, match=r"starts_BT\[0\] are no band of at most 2 columns"):
        rnnt_loss_banded(logits, torch.tensor(starts), *lattice.arguments[1:], 0)


def test_starts_of_another_shape_or_dtype_are_named() -> None:
    lattice = random_lattice([3], [3])
    logits = torch.zeros(1, 3, 2, 5)
    for starts in (torch.zeros(1, 2, dtype=torch.int64), torch.zeros(1, 3)):
        with pytest.raises(InputError, match="expected int64 of shape"):
            rnnt_loss_banded(logits, starts, *lattice.arguments[1:], 0)
    starts = torch.tensor([[0, 1, 2]])
    with pytest.raises(InputError, match=r"frames_B\[0\] is 4"):
        rnnt_loss_banded(logits, starts, lattice.labels, torch.tensor([4]), lattice.lengths, 0)


def test_what_stands_at_the_band(ragged: Lattice) -> None:
    starts, width = bands_of(ragged, 3)
    found = at_band(ragged.logits, starts, width)
    for row, t, s in torch.cartesian_prod(*map(torch.arange, found.shape[:3])).tolist():
        u = int(starts[row, t]) + s
        if t < ragged.frames[row] and u < 4:
            assert torch.equal(found[row, t, s], ragged.logits[row, t, u])


def test_ids_of_a_band_over_the_lattice(ragged: Lattice) -> None:
    starts, width = bands_of(ragged, 3)
    place = torch.arange(width).expand(5, 4, width)[..., None]
    over = ids_over_lattice(place, starts, 4)[..., 0]
    for row, t in torch.cartesian_prod(torch.arange(5), torch.arange(4)).tolist():
        start = int(starts[row, t])
        expected = [u - start if 0 <= u - start < width else -1 for u in range(4)]
        assert over[row, t].tolist() == expected
