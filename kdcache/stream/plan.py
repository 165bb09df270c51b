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
from typing import TYPE_CHECKING

import numpy as np

from kdcache.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

BUCKETS = 16
"""Duration buckets, by quantile: enough that padding is small, few enough to mix well."""


@dataclass(frozen=True, slots=True)
class EpochPlan:
    """The optimiser steps of one epoch.

    Attributes:
        steps: each a tuple of micro-batches, each an array of catalogue rows.
    """

    steps: tuple[tuple[np.ndarray, ...], ...]

    def __len__(self) -> int:
        return len(self.steps)

    def share(self, step: int, rank: int, world_size: int) -> tuple[np.ndarray, ...]:
        """The micro-batches of ``step`` that worker ``rank`` of ``world_size`` takes."""
        return self.steps[step][rank::world_size]

    def utterances(self, step: int) -> int:
        """Utterances of ``step`` on all workers together."""
        return sum(len(rows) for rows in self.steps[step])


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
    if batch_seconds <= 0 or micro_batches_per_step < 1:
        raise ConfigError(
            f"batch_seconds is {batch_seconds} and micro_batches_per_step "
            f"{micro_batches_per_step}; both must be positive."
        )
    durations = np.asarray(durations, np.float64)
    rows = _shuffled(len(durations), seed, 2 * epoch) if shuffle else np.arange(len(durations))
    batches = _fill_buckets(rows, durations, batch_seconds)
    if shuffle:
        batches = [batches[i] for i in _shuffled(len(batches), seed, 2 * epoch + 1)]
    count = micro_batches_per_step
    steps = (tuple(batches[i : i + count]) for i in range(0, len(batches), count))
    return EpochPlan(tuple(steps))


def _fill_buckets(
    rows: np.ndarray, durations: np.ndarray, batch_seconds: float
) -> list[np.ndarray]:
    edges = (
        np.unique(np.quantile(durations, np.linspace(0, 1, BUCKETS + 1)[1:-1]))
        if len(durations)
        else np.empty(0)
    )
    buckets = np.searchsorted(edges, durations, side="right")
    batches: list[np.ndarray] = []
    for bucket in range(len(edges) + 1):
        members = rows[buckets[rows] == bucket]
        batches.extend(_cut(members, durations, batch_seconds))
    return batches


def _cut(rows: np.ndarray, durations: np.ndarray, batch_seconds: float) -> Sequence[np.ndarray]:
    """Consecutive rows whose padded length stays within ``batch_seconds``."""
    batches, start, longest = [], 0, 0.0
    for i, row in enumerate(rows):
        grown = max(longest, float(durations[row]))
        if i > start and grown * (i - start + 1) > batch_seconds:
            batches.append(rows[start:i])
            start, grown = i, float(durations[row])
        longest = grown
    if start < len(rows):
        batches.append(rows[start:])
    return batches


def _shuffled(count: int, seed: int, salt: int) -> np.ndarray:
    """A permutation of ``range(count)``: rows sorted by a hash of (seed, salt, row)."""
    key = np.array([seed % 2**64, salt % 2**64], np.uint64)
    with np.errstate(over="ignore"):
        start = _mix(_mix(key[:1]) + key[1:])
        hashes = _mix(np.arange(count, dtype=np.uint64) + start)
    return np.argsort(hashes, kind="stable")


def _mix(x: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014): a bijection of 64 bits."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = x ^ (x >> np.uint64(31))
    return mixed
