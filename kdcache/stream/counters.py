"""What a stream has done so far, in numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StreamCounters:
    """Counts of one worker since its stream was made.

    Attributes:
        waited: seconds that the consumer has spent waiting for batches.
        batches, utterances: that it was given.
        hits: reads of a shard, for a micro-batch, that was on the local disk.
        misses: reads that had to wait for one.
        fetched, fetched_bytes: shards that came from an object store, and their bytes.
        refetched: shards that were fetched again because other bytes arrived than were written.
    """

    waited: float
    batches: int
    utterances: int
    hits: int = 0
    misses: int = 0
    fetched: int = 0
    fetched_bytes: int = 0
    refetched: int = 0
