"""The order of an epoch: a pure function of catalogue, seed and epoch.

Micro-batches are planned globally, before anyone asks how many workers there are: rows are
shuffled, dropped into buckets of like duration, and a bucket that is full becomes a
micro-batch. The micro-batches are shuffled again, and every ``micro_batches_per_step`` of
them make an optimiser step. Worker r of W takes those at positions r, r+W, … of each step,
so that any number of workers trains on the same steps with the same padding.

The shuffle sorts by a hash of (seed, epoch, row) rather than drawing from a random
generator: its order is fixed for ever, whatever the version of numpy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kdcache.errors import ConfigError
from kdcache.stream.buckets import bucket_of
from kdcache.stream.cut import cut, room_for
from kdcache.stream.shuffle import in_hash_order, shuffled


@dataclass(frozen=True, slots=True, eq=False)
class EpochPlan:
    """The optimiser steps of one epoch: N rows in M micro-batches.

    Attributes:
        rows_N: catalogue rows, int32 or, beyond 2³¹ of them, int64; a micro-batch's together.
        starts_M, ends_M: int64; where micro-batch m lies in ``rows_N``, in the order of training.
        per_step: micro-batches of a step; the last one may have fewer.
    """

    rows_N: np.ndarray
    starts_M: np.ndarray
    ends_M: np.ndarray
    per_step: int = 1

    def __len__(self) -> int:
        return -(-len(self.starts_M) // self.per_step)

    @property
    def steps(self) -> tuple[tuple[np.ndarray, ...], ...]:
        """Every step, a tuple of micro-batches, each an array of rows. For small plans."""
        return tuple(self.share(step, 0, 1) for step in range(len(self)))

    def batch(self, number: int) -> np.ndarray:
        """Rows of a micro-batch, numbered in the order of training."""
        return self.rows_N[self.starts_M[number] : self.ends_M[number]]

    def share(self, step: int, rank: int, world_size: int) -> tuple[np.ndarray, ...]:
        """The micro-batches of ``step`` that worker ``rank`` of ``world_size`` takes."""
        first, end = self._span(step)
        return tuple(self.batch(number) for number in range(first + rank, end, world_size))

    def utterances(self, step: int) -> int:
        """Utterances of ``step`` on all workers together."""
        span = slice(*self._span(step))
        return int((self.ends_M[span] - self.starts_M[span]).sum())

    def _span(self, step: int) -> tuple[int, int]:
        first = step * self.per_step
        return first, min(first + self.per_step, len(self.starts_M))


def plan_epoch(
    durations: np.ndarray,
    *,
    seed: int,
    epoch: int,
    batch_seconds: float,
    micro_batches_per_step: int = 1,
    shuffle: bool = True,
) -> EpochPlan:
    """Plan an epoch in which every row occurs exactly once.

    Memory is 4 bytes a row and 16 a micro-batch, and while it is planned some bytes a row more.

    Args:
        durations: seconds of each catalogue row.
        seed, epoch: what the shuffle depends on.
        batch_seconds: greatest padded length of a micro-batch (its longest row × its rows);
            a row longer than that makes a micro-batch of its own.
        micro_batches_per_step: micro-batches of an optimiser step; the last step of an
            epoch may have fewer.
        shuffle: ``False`` keeps rows by bucket, shortest first, for evaluation.

    Raises:
        ConfigError: ``batch_seconds`` or ``micro_batches_per_step`` not positive.
    """
    check_plan(batch_seconds, micro_batches_per_step)
    durations = np.asarray(durations, np.float64)
    rows, starts = _fill_buckets(durations, batch_seconds, (seed, 2 * epoch) if shuffle else None)
    ends = np.append(starts[1:], len(rows)).astype(np.int64)[: len(starts)]
    if shuffle:
        order = shuffled(len(starts), seed, 2 * epoch + 1)
        starts, ends = starts[order], ends[order]
    return EpochPlan(rows, starts, ends, micro_batches_per_step)


def check_plan(batch_seconds: float, micro_batches_per_step: int) -> None:
    """Raise ConfigError unless an epoch can be planned with these."""
    if batch_seconds <= 0 or micro_batches_per_step < 1:
        raise ConfigError(
            f"batch_seconds is {batch_seconds} and micro_batches_per_step "
            f"{micro_batches_per_step}; both must be positive."
        )


def _fill_buckets(
    durations: np.ndarray, batch_seconds: float, key: tuple[int, int] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Rows bucket by bucket, shuffled within each by ``key``, and where each batch starts."""
    buckets = bucket_of(durations)
    rows = np.empty(len(durations), row_dtype(len(durations)))
    found, at = [np.empty(0, np.int64)], 0
    for bucket in range(int(buckets.max(initial=0)) + 1):
        members = np.flatnonzero(buckets == bucket).astype(rows.dtype)
        if key is not None:
            members = in_hash_order(members, *key)
        found.append(at + cut(room_for(durations[members], batch_seconds)))
        rows[at : at + len(members)] = members
        at += len(members)
    return rows, np.concatenate(found)


def row_dtype(count: int) -> type[np.signedinteger]:
    """What numbers so many rows."""
    return np.int32 if count <= np.iinfo(np.int32).max else np.int64
