"""A stream as PyTorch's ``IterableDataset``, for training loops that are not ours.

Three things that such loops get wrong are settled here, an item at a time:

- They read ahead, so that the stream's own position is beyond what has been trained. Each item
  therefore carries the position from which to go on once *it* has been trained.
- Workers wait for each other in every backward pass. Each worker therefore gets as many items of
  each step as every other: where it has none left, one that stands in and weighs nothing.
- They take means of means, over micro-batches of different sizes. Each item therefore carries
  the weight that makes the step's gradient that of its mean over utterances, on any number of
  workers.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any, Literal, TypedDict, get_args

from torch.utils.data import IterableDataset, get_worker_info

from kdcache.errors import ConfigError, DamagedCacheError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kdcache.batch import Batch
    from kdcache.stream.stream import Step, Stream

Accumulation = Literal["sum", "mean"]


class Item(TypedDict):
    """A micro-batch with what a foreign training loop needs to know of it.

    Attributes:
        batch: the padded utterances.
        weight: minimise this times the sum of the utterances' losses; 0 for a stand-in.
        position: the stream's ``state_dict`` from which to go on once this item is trained; of
            all items of a step but the last, the beginning of their step.
    """

    batch: Batch
    weight: float
    position: dict[str, Any]


class TorchDataset(IterableDataset[Item]):
    """The items of one worker, epoch after epoch, from where its stream stands.

    It is a loader by itself: give it to a training loop as it is. In a ``DataLoader`` it needs
    ``batch_size=None`` and no worker processes. It has no length, because epochs differ in theirs.

    Args:
        stream: whose ``rank`` and ``world_size`` say which worker this is.
        accumulation: how the loop puts the gradients of one worker's micro-batches of a step
            together: by their ``sum`` (a plain loop of backward passes) or their ``mean``
            (Lightning, Hugging Face). Gradients of different workers are averaged, as DDP does.
        epochs: how many to give, what is left of the first one counted; all there will ever be
            if ``None``.

    Raises:
        ConfigError: ``accumulation`` is unknown, or ``epochs`` not positive; when it is iterated,
            in a worker process of a ``DataLoader``.
    """

    def __init__(
        self, stream: Stream, *, accumulation: Accumulation = "sum", epochs: int | None = None
    ) -> None:
        _check(accumulation, epochs)
        self.stream = stream
        self._epochs = epochs
        self._mean = accumulation == "mean"

    @property
    def items_per_step(self) -> int:
        """Micro-batches of one worker in an optimiser step: what the loop has to accumulate."""
        return int(self.stream.state_dict()["micro_batches_per_step"]) // self.stream.world_size

    def __iter__(self) -> Iterator[Item]:
        _refuse_worker_processes()
        if not len(self.stream.source.durations):
            return
        for _ in count() if self._epochs is None else range(self._epochs):
            yield from self._epoch()

    def _epoch(self) -> Iterator[Item]:
        items_per_step = self.items_per_step
        before = self.stream.state_dict()
        for step in self.stream.steps():
            after = self.stream.state_dict()
            for place in range(items_per_step):
                batch, weight = self._item(step, place)
                last = place == items_per_step - 1
                yield Item(batch=batch, weight=weight, position=after if last else before)
            before = after

    def _item(self, step: Step, place: int) -> tuple[Batch, float]:
        """A micro-batch and its weight; a stand-in where this worker has none at ``place``."""
        if place >= len(step.batches):
            return self._stand_in(step), 0.0
        accumulated = self.items_per_step if self._mean else 1
        return step.batches[place], self.stream.world_size * accumulated / step.utterances

    def _stand_in(self, step: Step) -> Batch:
        """The first micro-batch from the step's beginning on, of any worker, that can be read."""
        plan = self.stream.plan(step.epoch)
        first, batches = step.index * plan.per_step, len(plan.starts_M)
        for number in range(first, first + batches):
            try:
                return self.stream.source.load_batch(plan.batch(number % batches).tolist())
            except DamagedCacheError as error:
                damage = error
        raise damage


def _check(accumulation: str, epochs: int | None) -> None:
    known = get_args(Accumulation)
    if accumulation not in known:
        hint = did_you_mean(accumulation, known)
        raise ConfigError(f"accumulation is {accumulation!r}; expected {' or '.join(known)}.{hint}")
    if epochs is not None and epochs < 1:
        raise ConfigError(f"epochs is {epochs}; expected 1 or more, or None for no end.")


def _refuse_worker_processes() -> None:
    """Each process would read everything; the stream reads ahead in a thread anyway."""
    info = get_worker_info()
    if info is not None:
        raise ConfigError(
            f"The dataset of a stream is iterated in worker process {info.id} of a DataLoader, "
            "where every process would give the same items; set num_workers to 0: the stream "
            "reads ahead in a thread of its own."
        )
