"""The order of an epoch that needs only some shards at a time.

Shards come in an order that a hash decides. A row of the shard at place p is drawn somewhere from
p to p + W, again by a hash, so that at any moment rows of W shards are mixed, and a window of W
shards slides over the epoch; it opens at one shard, so that the first step need not wait for W.
Rows are dropped into buckets of like duration as they are drawn, and micro-batches come in the
order in which they fill up.

Like the plan of a whole epoch this is a pure function of catalogue, seed and epoch, and knows
nothing of workers. How well it mixes is measured by :func:`measure_shuffle`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kdcache.stream.buckets import bucket_of
from kdcache.stream.cut import cut, room_for
from kdcache.stream.plan import EpochPlan, check_plan, row_dtype
from kdcache.stream.shuffle import hashes, shuffled

if TYPE_CHECKING:
    from kdcache.store.shards import ShardsOfRows

_ROWS, _SHARDS = 2**62, 2**62 + 1
"""Salts of the hashes, far from those of epochs without a window."""

_SAMPLED = 2000
"""Micro-batches that the quality of a shuffle is measured on."""


def plan_window(
    durations: np.ndarray,
    shards: ShardsOfRows,
    window: int,
    *,
    seed: int,
    epoch: int,
    batch_seconds: float,
    micro_batches_per_step: int = 1,
) -> EpochPlan:
    """Plan an epoch in which every row occurs exactly once, W shards at a time.

    Args:
        durations: seconds of each catalogue row.
        shards: the shard of each row.
        window: W, at least 1.
        seed, epoch, batch_seconds, micro_batches_per_step: see
            :func:`~kdcache.stream.plan.plan_epoch`.

    Raises:
        ConfigError: see there.
    """
    check_plan(batch_seconds, micro_batches_per_step)
    durations = np.asarray(durations, np.float64)
    drawn = _drawn(shards, window, seed, epoch)
    rows, starts, ends, filled = _fill(drawn, durations, batch_seconds)
    order = np.argsort(filled, kind="stable")
    return EpochPlan(rows, starts[order], ends[order], micro_batches_per_step)


def _drawn(shards: ShardsOfRows, window: int, seed: int, epoch: int) -> np.ndarray:
    """Rows in the order in which the window gives them."""
    count = len(shards.records)
    place = np.empty(count, np.uint64)
    place[shuffled(count, seed, _SHARDS + 2 * epoch)] = np.arange(count, dtype=np.uint64)
    rows = np.arange(len(shards.code_N))
    # In units of 2⁻³² shards, W·u(row) to the same precision: whole numbers sort alike everywhere.
    within = (hashes(rows, seed, _ROWS + 2 * epoch) >> np.uint64(32)) * np.uint64(window)
    key = (place[shards.code_N] << np.uint64(32)) + within
    return np.argsort(key, kind="stable").astype(row_dtype(len(rows)))


def _fill(
    drawn: np.ndarray, durations: np.ndarray, batch_seconds: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rows bucket by bucket; of each micro-batch start, end, and the draw that filled it."""
    buckets = bucket_of(durations)[drawn]
    rows, at = np.empty_like(drawn), 0
    starts, ends, filled = ([np.empty(0, np.int64)] for _ in range(3))
    for bucket in range(int(buckets.max(initial=0)) + 1):
        places = np.flatnonzero(buckets == bucket)
        members = drawn[places]
        cuts = cut(room_for(durations[members], batch_seconds))
        after = np.append(cuts[1:], len(members)).astype(np.int64)[: len(cuts)]
        starts.append(at + cuts)
        ends.append(at + after)
        filled.append(places[after - 1])
        rows[at : at + len(members)] = members
        at += len(members)
    return rows, np.concatenate(starts), np.concatenate(ends), np.concatenate(filled)


@dataclass(frozen=True, slots=True)
class ShuffleQuality:
    """How well an epoch is mixed; of a shuffle of all rows, about 1 and the least share.

    Attributes:
        distance: how far utterances that follow each other lie apart in the catalogue, on
            average, ÷ a third of its length, which is what a shuffle of all rows gives.
        one_shard: of a micro-batch, the largest share that comes from one shard, on average.
        shards: shards that a micro-batch draws from, on average.
    """

    distance: float
    one_shard: float
    shards: float


def measure_shuffle(plan: EpochPlan, shards: ShardsOfRows) -> ShuffleQuality:
    """The quality of a plan, on micro-batches all over the epoch that have several rows."""
    count = len(plan.starts_M)
    numbers = np.unique(np.linspace(0, max(count - 1, 0), min(count, _SAMPLED)).astype(np.int64))
    batches = [rows for n in numbers if len(rows := plan.batch(int(n)).astype(np.int64)) > 1]
    if not batches:
        return ShuffleQuality(0.0, 1.0, 1.0)
    apart = np.concatenate([np.abs(np.diff(rows)) for rows in batches])
    tallies = [np.unique(shards.code_N[rows], return_counts=True)[1] for rows in batches]
    largest = [tally.max() / tally.sum() for tally in tallies]
    return ShuffleQuality(
        float(apart.mean() / (len(plan.rows_N) / 3)),
        float(np.mean(largest)),
        float(np.mean([len(tally) for tally in tallies])),
    )
