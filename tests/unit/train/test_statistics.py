"""Running statistics: torch's own rule where a step is one micro-batch, and no order in it."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from kdcache.train.statistics import RunningStatistics
from kdcache.train.world import World


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.BatchNorm1d(4, momentum=0.3))


def data(count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [1 + 2 * torch.randn(5, 3, generator=generator) for _ in range(count)]


def after(net: nn.Module, steps: list[list[Tensor]]) -> dict[str, Tensor]:
    statistics = RunningStatistics(net, World())
    for step in steps:
        with statistics.step():
            for batch in step:
                with statistics.micro_batch():
                    output = net(batch)
                output.square().sum().backward()
    return {name: value.clone() for name, value in net.named_buffers()}


def test_one_micro_batch_a_step_is_torchs_own_rule() -> None:
    net, plain, batches = network(), network(), data(5)
    found = after(net, [[batch] for batch in batches])
    for batch in batches:
        plain(batch)
    for name, value in plain.named_buffers():
        torch.testing.assert_close(found[name], value)


def test_the_order_within_a_step_does_not_matter() -> None:
    batches = data(4)
    forth = after(network(), [batches])
    back = after(network(), [batches[::-1]])
    for name, value in forth.items():
        torch.testing.assert_close(back[name], value)


def test_equal_micro_batches_move_as_in_turn() -> None:
    """Then the mean over them is each of them, and the rule is torch's, n times."""
    (batch,), plain = data(1), network()
    found = after(network(), [[batch] * 3])
    for _ in range(3):
        plain(batch)
    for name, value in plain.named_buffers():
        torch.testing.assert_close(found[name], value)


@pytest.mark.parametrize("shares", [[2, 2], [3, 1], [4, 0]])
def test_workers_move_as_one(shares: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """The others' sums, which a worker is sent, make good what it has not seen itself."""
    batches = data(4)
    expected = after(network(), [batches])
    net = network()
    sent: list[Tensor] = []
    parts = batches[: shares[0]], batches[shares[0] :]
    assert [len(part) for part in parts] == shares
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda x: sent.append(x.clone()))
    other = deepcopy(net)
    alone = RunningStatistics(other, World(1, 2))
    with alone.step():
        for batch in parts[1]:
            with alone.micro_batch():
                other(batch)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda x: x.add_(sent[0]))
    first = RunningStatistics(net, World(0, 2))
    with first.step():
        for batch in parts[0]:
            with first.micro_batch():
                net(batch)
    for name, value in net.named_buffers():
        torch.testing.assert_close(value, expected[name])


def test_a_step_without_micro_batches_leaves_them() -> None:
    net = network()
    before = {name: value.clone() for name, value in net.named_buffers()}
    found = after(net, [[]])
    assert all(torch.equal(found[name], value) for name, value in before.items())
