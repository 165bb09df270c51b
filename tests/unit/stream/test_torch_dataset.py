"""A stream in a foreign training loop: its order, its place, its workers and its weights."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from kdcache.errors import ConfigError, DamagedCacheError
from kdcache.stream import Example, Stream, TorchDataset
from kdcache.stream.collate import collate

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kdcache.batch import Batch
    from kdcache.stream.torch_dataset import Item


class MemorySource:
    """Utterances that are their own row number; those of ``damaged`` cannot be read."""

    def __init__(self, rows: int, damaged: Iterable[int] = ()) -> None:
        self.durations = np.linspace(0.5, 9.0, rows)
        self.snapshot = f"{rows}"
        self._damaged = frozenset(damaged)

    frame_shift = None

    def load(self, row: int) -> Example:
        if row in self._damaged:
            raise DamagedCacheError(f"row {row} is damaged")
        tokens = np.full(1 + row % 3, row, np.int64)
        return Example(str(row), str(row), tokens, np.full(3 + row % 7, row, np.float32))

    def load_batch(self, rows: Sequence[int]) -> Batch:
        return collate([self.load(row) for row in rows])


def stream_of(rows: int = 23, damaged: Iterable[int] = (), **changes: Any) -> Stream:
    shared = {"batch_seconds": 12.0, "seed": 5, "micro_batches_per_step": 4}
    return Stream(MemorySource(rows, damaged), **(shared | changes))


def given_ids(items: Iterable[Item]) -> list[tuple[str, ...]]:
    """What is learnt from: stand-ins are left out."""
    return [item["batch"].ids for item in items if item["weight"]]


def by_step(items: Iterable[Item], per_step: int) -> list[list[Item]]:
    found = list(items)
    return [found[i : i + per_step] for i in range(0, len(found), per_step)]


def loss_of(batch: Batch, parameter: torch.Tensor) -> torch.Tensor:
    """A loss of each utterance that depends on what is in it: (B,)."""
    return (batch.labels_BU.double().sum(1) * parameter - 3.0) ** 2


# Order


def test_it_gives_what_the_bare_stream_gives_in_that_order() -> None:
    bare = stream_of()
    epochs = [[batch.ids for batch in bare] for _ in range(3)]
    assert epochs[0] != epochs[1]
    found = given_ids(TorchDataset(stream_of(), epochs=3))
    assert found == [ids for epoch in epochs for ids in epoch]


def test_it_has_no_end_unless_one_is_set() -> None:
    epoch = len(list(TorchDataset(stream_of(), epochs=1)))
    assert len(list(islice(TorchDataset(stream_of()), 5 * epoch))) == 5 * epoch


def test_an_empty_stream_ends_at_once() -> None:
    assert list(TorchDataset(stream_of(0))) == []


def test_iterating_again_goes_on() -> None:
    whole = given_ids(TorchDataset(stream_of(), epochs=2))
    dataset = TorchDataset(stream_of(), epochs=1)
    assert given_ids(dataset) + given_ids(dataset) == whole


# Workers


@pytest.mark.parametrize("world_size", [1, 2, 4])
@pytest.mark.parametrize("rows", [1, 9, 23])
def test_every_worker_gets_as_many_items_of_each_step(world_size: int, rows: int) -> None:
    whole = stream_of(rows)
    steps = [[batch.ids for batch in step.batches] for step in whole.steps()]
    workers = [
        by_step(
            TorchDataset(stream_of(rows, rank=rank, world_size=world_size), epochs=1),
            4 // world_size,
        )
        for rank in range(world_size)
    ]
    assert {len(worker) for worker in workers} == {len(steps)}
    for index, step in enumerate(steps):
        items = [item for worker in workers for item in worker[index]]
        assert len(items) == 4
        assert sorted(given_ids(items)) == sorted(step)
        assert all(item["batch"].ids in step for item in items)


@pytest.mark.parametrize("accumulation", ["sum", "mean"])
@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_the_weights_make_a_step_its_mean_over_utterances(
    world_size: int, accumulation: Any
) -> None:
    """Whatever number of workers: Σ over micro-batches (or their mean), mean over workers."""
    expected = []
    for step in stream_of().steps():
        losses = [loss_of(batch, torch.tensor(2.0)) for batch in step.batches]
        expected.append(torch.cat(losses).mean().item())
    found = [0.0] * len(expected)
    for rank in range(world_size):
        stream = stream_of(rank=rank, world_size=world_size)
        dataset = TorchDataset(stream, accumulation=accumulation, epochs=1)
        for index, items in enumerate(by_step(dataset, dataset.items_per_step)):
            losses = [i["weight"] * loss_of(i["batch"], torch.tensor(2.0)).sum() for i in items]
            total = torch.stack(losses)
            own = total.sum() if accumulation == "sum" else total.mean()
            found[index] += own.item() / world_size
    assert found == pytest.approx(expected)


def test_a_stand_in_can_be_read_where_others_are_damaged() -> None:
    plan = stream_of().plan(0)
    last = plan.steps[-1]
    assert len(last) < 4
    lost = {int(row) for rows in last for row in rows} - {int(last[-1][-1])}
    stream = stream_of(damaged=lost, rank=3, world_size=4, on_damage="skip")
    *_, item = TorchDataset(stream, epochs=1)
    assert item["weight"] == 0.0
    assert lost.isdisjoint(map(int, item["batch"].ids))


def test_what_is_damaged_throughout_is_said() -> None:
    stream = stream_of(5, damaged=range(5), on_damage="skip")
    with pytest.raises(DamagedCacheError, match="is damaged"):
        list(TorchDataset(stream, epochs=1))


# Position


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_it_goes_on_behind_any_trained_item_whatever_was_read_ahead(data: st.DataObject) -> None:
    world_size, steps = data.draw(st.sampled_from([1, 2, 4])), data.draw(st.integers(1, 8))
    items = iter(TorchDataset(stream_of(world_size=world_size)))
    trained = [next(items) for _ in range(steps * 4 // world_size)]
    for _ in range(data.draw(st.integers(0, 3))):  # as loaders do before anything is saved
        next(items)
    resumed = TorchDataset(stream_of())
    resumed.stream.load_state_dict(trained[-1]["position"])
    expected = list(islice(TorchDataset(stream_of()), 4 * steps, 40))
    found = list(islice(resumed, 40 - 4 * steps))
    assert given_ids(found) == given_ids(expected)
    assert found[-1]["position"] == expected[-1]["position"]


def test_within_a_step_the_position_is_its_beginning() -> None:
    items = list(islice(TorchDataset(stream_of()), 8))
    nexts = [item["position"]["next"] for item in items]
    assert nexts == [0, 0, 0, 1, 1, 1, 1, 2]


# What it refuses


def test_a_data_loader_passes_items_on() -> None:
    pairs = zip(
        DataLoader(TorchDataset(stream_of(), epochs=1), batch_size=None),
        TorchDataset(stream_of(), epochs=1),
        strict=True,
    )
    for through, direct in pairs:
        assert through["batch"].ids == direct["batch"].ids
        assert through["weight"] == direct["weight"]
        assert through["position"] == direct["position"]


def test_worker_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Info:
        id = 1

    monkeypatch.setattr("kdcache.stream.torch_dataset.get_worker_info", Info)
    with pytest.raises(ConfigError, match="worker process 1 .* set num_workers to 0"):
        next(iter(TorchDataset(stream_of())))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"accumulation": "means"}, "accumulation is 'means'; expected sum or mean. Did you mean"),
        ({"epochs": 0}, "epochs is 0; expected 1 or more"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TorchDataset(stream_of(), **arguments)


def test_a_batch_moves_as_training_loops_move_things() -> None:
    batch = next(iter(TorchDataset(stream_of())))["batch"]
    moved = batch.to("meta")
    assert {moved.labels_BU.device.type, moved.label_lengths_B.device.type} == {"meta"}
    assert moved.ids == batch.ids
    assert batch.labels_BU.device.type == "cpu"
