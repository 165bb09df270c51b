from __future__ import annotations

import brute_force
import pytest
import torch
from lattices import Lattice, random_lattice
from torch import Tensor

from kdcache.errors import ConfigError
from kdcache.lattice import (
    arc_occupancy,
    forward_backward,
    node_log_probs,
    rnnt_loss,
    transducer_nll,
)

SIZES = [(t, u) for t in range(1, 5) for u in range(4)]


def gradient(lattice: Lattice, reduction: str = "sum") -> tuple[Tensor, Tensor]:
    logits = lattice.logits.clone().requires_grad_()
    loss = rnnt_loss(
        logits,
        lattice.labels,
        lattice.frames,
        lattice.lengths,
        0,
        reduction,  # type: ignore[arg-type]
    )
    loss.sum().backward()
    assert logits.grad is not None
    return loss.detach(), logits.grad


@pytest.mark.parametrize(("frames", "labels"), SIZES)
def test_value_is_minus_the_log_of_all_paths(frames: int, labels: int) -> None:
    lattice = random_lattice([frames], [labels], seed=frames * 10 + labels)
    blank, label = node_log_probs(lattice.logits, lattice.labels, 0)
    expected = -brute_force.log_likelihood(blank[0], label[0])
    assert float(rnnt_loss(*lattice.arguments, 0)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("frames", "labels"), SIZES)
def test_gradient_is_softmax_times_occupancy_minus_arcs(frames: int, labels: int) -> None:
    lattice = random_lattice([frames], [labels], seed=frames * 10 + labels)
    blank, label = node_log_probs(lattice.logits, lattice.labels, 0)
    by_blank, by_label = brute_force.arc_posteriors(blank[0], label[0])
    expected = lattice.logits[0].softmax(-1) * (by_blank + by_label)[..., None]
    expected[..., 0] -= by_blank
    for u in range(labels):
        expected[:, u, lattice.labels[0, u]] -= by_label[:, u]
    torch.testing.assert_close(gradient(lattice)[1][0], expected)


def test_gradcheck_by_logits(tiny: Lattice) -> None:
    def function(z: Tensor) -> Tensor:
        return rnnt_loss(z, tiny.labels, tiny.frames, tiny.lengths, 0, "none")

    assert torch.autograd.gradcheck(function, (tiny.logits.clone().requires_grad_(),))


def test_gradcheck_by_arcs(ragged: Lattice) -> None:
    generator = torch.Generator().manual_seed(1)
    shape = ragged.logits.shape[:3]
    arcs = [torch.randn(shape, generator=generator).double().requires_grad_() for _ in range(2)]

    def function(blank: Tensor, label: Tensor) -> Tensor:
        return transducer_nll(blank, label, ragged.frames, ragged.lengths, "none")

    assert torch.autograd.gradcheck(function, arcs)


def test_gradient_by_arcs_is_minus_their_occupancy(ragged: Lattice) -> None:
    pair = node_log_probs(ragged.logits, ragged.labels, 0)
    blank, label = (x.detach().requires_grad_() for x in pair)
    arcs = (blank, label, ragged.frames, ragged.lengths)
    transducer_nll(*arcs, "sum").backward()
    by_blank, by_label = arc_occupancy(*arcs, forward_backward(*arcs))
    torch.testing.assert_close(blank.grad, -by_blank)
    torch.testing.assert_close(label.grad, -by_label)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_agrees_with_warprnnt_numba(dtype: torch.dtype) -> None:
    warprnnt_numba = pytest.importorskip("warprnnt_numba")
    lattice = random_lattice([7, 4, 1], [5, 2, 0], vocab=9, dtype=dtype)
    logits = lattice.logits.clone().requires_grad_()
    module = warprnnt_numba.RNNTLossNumba(blank=0, reduction="sum")
    other = module(logits, *(x.int() for x in lattice.arguments[1:]))
    other.sum().backward()
    value, grad = gradient(lattice)
    torch.testing.assert_close(value, other.detach().squeeze().to(value.dtype), rtol=1e-6, atol=0)
    assert logits.grad is not None
    # Its recursion runs in float32, whatever the logits are.
    torch.testing.assert_close(grad, logits.grad, rtol=0, atol=2e-5)


def test_blank_may_be_any_class() -> None:
    lattice = random_lattice([5, 3], [3, 2], vocab=6)
    order = torch.tensor([1, 2, 3, 4, 5, 0])
    moved = rnnt_loss(
        lattice.logits[..., order], lattice.labels - 1, lattice.frames, lattice.lengths, 5
    )
    torch.testing.assert_close(moved, rnnt_loss(*lattice.arguments, 0))


def test_padding_has_no_say_and_no_gradient(ragged: Lattice) -> None:
    value, grad = gradient(ragged, "none")
    for filler in (1e4, -torch.inf, float("nan")):
        logits = torch.nn.functional.pad(ragged.logits, (0, 0, 0, 2, 0, 3), value=filler)
        labels = torch.nn.functional.pad(ragged.labels, (0, 2), value=-1)
        for row, (frames, length) in enumerate(zip(ragged.frames, ragged.lengths, strict=True)):
            logits[row, frames:] = filler
            logits[row, :, length + 1 :] = filler
            labels[row, length:] = 99
        padded = Lattice(logits, labels, ragged.frames, ragged.lengths)
        padded_value, padded_grad = gradient(padded, "none")
        assert torch.equal(padded_value, value)
        assert torch.equal(padded_grad[:, :4, :4], grad)
        assert (padded_grad[:, 4:] == 0).all()
        assert (padded_grad[:, :, 4:] == 0).all()


def test_gradient_of_a_node_sums_to_zero(ragged: Lattice) -> None:
    grad = gradient(ragged)[1]
    torch.testing.assert_close(grad.sum(-1), torch.zeros_like(grad[..., 0]))


def test_reductions(ragged: Lattice) -> None:
    each = rnnt_loss(*ragged.arguments, 0, "none")
    assert each.shape == (5,)
    torch.testing.assert_close(rnnt_loss(*ragged.arguments, 0, "sum"), each.sum())
    torch.testing.assert_close(rnnt_loss(*ragged.arguments, 0, "mean"), each.mean())
    torch.testing.assert_close(rnnt_loss(*ragged.arguments, 0), each.mean())


def test_weights_of_utterances_reach_the_gradient(ragged: Lattice) -> None:
    logits = ragged.logits.clone().requires_grad_()
    weights = torch.tensor([1.0, 0.0, -2.0, 0.5, 3.0]).double()
    loss = rnnt_loss(logits, ragged.labels, ragged.frames, ragged.lengths, 0, "none")
    (loss * weights).sum().backward()
    expected = gradient(ragged)[1] * weights[:, None, None, None]
    torch.testing.assert_close(logits.grad, expected)


def test_an_unknown_reduction_is_named(ragged: Lattice) -> None:
    with pytest.raises(ConfigError, match="reduction is 'avg'; expected one of none, sum, mean"):
        rnnt_loss(*ragged.arguments, 0, "avg")  # type: ignore[arg-type]


def test_400_labels_in_float32_keep_their_digits() -> None:
    exact = random_lattice([450], [400], vocab=12)
    coarse = Lattice(exact.logits.float(), *exact.arguments[1:])
    value, grad = gradient(coarse)
    expected_value, expected_grad = gradient(Lattice(coarse.logits.double(), *exact.arguments[1:]))
    assert float(expected_value) > 1000
    torch.testing.assert_close(value.double(), expected_value, rtol=2e-7, atol=0)
    torch.testing.assert_close(grad.double(), expected_grad, rtol=0, atol=2e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_logits_give_half_gradients(ragged: Lattice, dtype: torch.dtype) -> None:
    half = Lattice(ragged.logits.to(dtype), *ragged.arguments[1:])
    value, grad = gradient(half)
    expected_value, expected = gradient(Lattice(half.logits.double(), *ragged.arguments[1:]))
    assert value.dtype == torch.float32
    assert grad.dtype == dtype
    torch.testing.assert_close(value.double(), expected_value, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(grad, expected.to(dtype), rtol=1e-2, atol=1e-5)


def test_nan_reaches_its_own_loss_and_gradient_only(ragged: Lattice) -> None:
    logits = ragged.logits.clone()
    logits[0, 2, 1, 4] = float("nan")
    spoilt = Lattice(logits, *ragged.arguments[1:])
    value, grad = gradient(spoilt, "none")
    assert value.isnan().tolist() == [True, False, False, False, False]
    assert grad[0].isnan().any()
    assert grad[1:].isfinite().all()
    assert rnnt_loss(*spoilt.arguments, 0, "mean").isnan()


def test_impossible_labels_are_infinite_and_not_hidden(ragged: Lattice) -> None:
    logits = ragged.logits.clone()
    logits[0, :, 0, ragged.labels[0, 0]] = -torch.inf
    value, grad = gradient(Lattice(logits, *ragged.arguments[1:]), "none")
    assert value[0] == torch.inf
    assert grad[0].isnan().any()
    assert value[1:].isfinite().all()
    assert grad[1:].isfinite().all()


def test_no_gradient_is_kept_where_none_is_asked(ragged: Lattice) -> None:
    assert not rnnt_loss(*ragged.arguments, 0).requires_grad


def test_same_input_same_bytes(ragged: Lattice) -> None:
    first, second = gradient(ragged), gradient(ragged)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
