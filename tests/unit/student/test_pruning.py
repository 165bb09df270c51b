"""Gradual magnitude pruning: schedule, choice, and zeros that stay."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from kdcache.student.prune_settings import PruneSettings
from kdcache.student.pruning import Pruner, prunable, zero_smallest

schedules = st.builds(
    lambda sparsity, begin, length, every: PruneSettings(
        sparsity=sparsity, begin=begin, end=begin + length, every=every
    ),
    st.floats(0.01, 0.99),
    st.integers(0, 50),
    st.integers(1, 200),
    st.integers(1, 60),
)


class Network(nn.Module):
    """A matrix, a kernel over channels, one over one channel, a bias and a head."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.inner = nn.Linear(12, 10)
        self.mix = nn.Conv1d(6, 5, 3)
        self.depthwise = nn.Conv1d(6, 6, 3, groups=6)
        self.lstm = nn.LSTM(4, 5)
        self.ctc_head = nn.Linear(10, 7)


def test_the_schedule_is_the_cubic_one() -> None:
    schedule = PruneSettings(sparsity=0.8, begin=100, end=200)
    values = {step: schedule.sparsity_at(step) for step in (0, 100, 150, 200, 900)}
    assert values == pytest.approx({0: 0, 100: 0, 150: 0.8 * (1 - 0.125), 200: 0.8, 900: 0.8})


@given(schedules)
def test_sparsity_never_falls_and_ends_where_it_should(schedule: PruneSettings) -> None:
    values = [schedule.sparsity_at(step) for step in range(schedule.end + 5)]
    assert values == sorted(values)
    assert values[: schedule.begin] == [0.0] * schedule.begin
    assert values[schedule.end :] == [schedule.sparsity] * 5


@given(schedules)
def test_it_is_due_from_the_begin_to_the_end_and_then(schedule: PruneSettings) -> None:
    due = [step for step in range(schedule.end + 100) if schedule.is_due(step)]
    assert due[0] in (schedule.begin, schedule.end)
    assert due[-1] == schedule.end


def test_an_end_before_the_beginning_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"should have end \(5\) after begin \(5\)"):
        PruneSettings(sparsity=0.5, begin=5, end=5)


def test_what_is_pruned() -> None:
    assert sorted(prunable(Network())) == [
        "inner.weight",
        "lstm.weight_hh_l0",
        "lstm.weight_ih_l0",
        "mix.weight",
    ]


@given(st.integers(0, 20), st.floats(0, 1), st.integers(1, 3))
def test_the_smallest_go_and_as_many_as_were_asked_for(seed: int, share: float, n: int) -> None:
    torch.manual_seed(seed)
    weights = [nn.Parameter(torch.randn(4, 3).round(decimals=1)) for _ in range(n)]
    before = torch.cat([w.detach().flatten() for w in weights])
    zero_smallest(weights, share)
    after = torch.cat([w.detach().flatten() for w in weights])
    gone = before[after != before]
    assert int((after == 0).sum()) >= round(share * len(before))
    assert len(gone) <= round(share * len(before))
    if len(gone) and (after != 0).any():
        assert gone.abs().max() <= after[after != 0].abs().min()


def trained(settings: PruneSettings, steps: int, *, seed: int = 0) -> tuple[Network, Pruner]:
    """A network trained on noise: every weight is pushed about, by momentum and decay as well."""
    network = Network(seed)
    pruner = Pruner(network, settings)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01, weight_decay=0.1)
    for step in range(1, steps + 1):
        torch.manual_seed(step)
        for parameter in network.parameters():
            parameter.grad = torch.randn_like(parameter)
        pruner.drop_gradients()
        optimizer.step()
        pruner.after_step(step)
    return network, pruner


def zeros(network: Network) -> dict[str, torch.Tensor]:
    return {name: weight == 0 for name, weight in prunable(network).items()}


def test_zeros_stay_zero_whatever_the_optimiser_does() -> None:
    settings = PruneSettings(sparsity=0.7, begin=2, end=10, every=3)
    early, late = zeros(trained(settings, 6)[0]), zeros(trained(settings, 60)[0])
    for name in early:
        assert early[name].any()
        assert (early[name] <= late[name]).all()


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_the_share_is_reached(scope: str) -> None:
    settings = PruneSettings(sparsity=0.7, end=10, every=3, scope=scope)
    network, pruner = trained(settings, 12)
    assert pruner.sparsity == pytest.approx(0.7, abs=0.01)
    shares = [float(mask.float().mean()) for mask in zeros(network).values()]
    assert (max(shares) - min(shares) < 0.02) == (scope == "layer")


def test_nothing_is_held_before_the_first_choice() -> None:
    network, pruner = trained(PruneSettings(sparsity=0.7, begin=50, end=60), 10)
    assert pruner.sparsity == 0.0
    network.inner.weight.grad = torch.ones_like(network.inner.weight)
    pruner.drop_gradients()
    assert bool((network.inner.weight.grad == 1).all())


def test_gradients_of_zeros_are_dropped() -> None:
    network, pruner = trained(PruneSettings(sparsity=0.5, end=4, every=2), 6)
    network.inner.weight.grad = torch.ones_like(network.inner.weight)
    pruner.drop_gradients()
    assert torch.equal(network.inner.weight.grad == 0, network.inner.weight == 0)


def test_a_pruner_that_comes_later_finds_the_zeros() -> None:
    settings = PruneSettings(sparsity=0.5, end=4, every=2)
    network, first = trained(settings, 6)
    later = Pruner(network, settings, step=6)
    for pruner in (first, later):
        network.inner.weight.grad = torch.ones_like(network.inner.weight)
        pruner.drop_gradients()
        assert int(network.inner.weight.grad.sum()) == 60
