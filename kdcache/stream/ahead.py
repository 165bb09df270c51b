"""Fetching shards before a stream asks for them, in the order of its plan."""

from __future__ import annotations

from bisect import bisect_right
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Condition, Thread
from typing import TYPE_CHECKING

import numpy as np

from kdcache.errors import ConfigError, KdcacheError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kdcache.store.fetched_shards import FetchedShards
    from kdcache.store.files import FileRecord
    from kdcache.store.shards import ShardsOfRows
    from kdcache.stream.plan import EpochPlan

_LOOK_AGAIN = 1.0
"""Seconds after which a thread without room looks again: another process may have made some."""

_FAREWELL = 5.0
"""Seconds that the end waits for a thread that is fetching: a dead service may keep it longer."""


@dataclass(frozen=True, slots=True, eq=False)
class Schedule:
    """When a worker needs which shard, in an epoch.

    Attributes:
        shards: shards (Q) by number, in the order in which they are first needed.
        first_Q, last_Q: the first and the last step that needs each; first_Q does not fall.
    """

    shards: np.ndarray
    first_Q: np.ndarray
    last_Q: np.ndarray

    @classmethod
    def of(cls, plan: EpochPlan, shards: ShardsOfRows, rank: int, world_size: int) -> Schedule:
        """What worker ``rank`` needs of ``plan``."""
        step = np.arange(len(plan.starts_M)) // plan.per_step
        place = np.arange(len(plan.starts_M)) % plan.per_step
        step[place % world_size != rank] = -1
        by_start = np.argsort(plan.starts_M, kind="stable")
        lengths = (plan.ends_M - plan.starts_M)[by_start]
        steps = np.repeat(step[by_start].astype(np.int32), lengths)
        mine = steps >= 0
        codes, steps = shards.code_N[plan.rows_N[mine]], steps[mine]
        first = np.full(len(shards.records), np.iinfo(np.int32).max, np.int32)
        last = np.full(len(shards.records), -1, np.int32)
        np.minimum.at(first, codes, steps)
        np.maximum.at(last, codes, steps)
        needed = np.flatnonzero(last >= 0)
        order = needed[np.argsort(first[needed], kind="stable")]
        return cls(order, first[order], last[order])

    def most_bytes(self, sizes: np.ndarray, ahead: int) -> int:
        """Bytes of all shards that are needed again or are fetched ahead, at the worst step.

        Args:
            sizes: int64, bytes of each shard by number.
            ahead: shards that are fetched ahead.
        """
        if not len(self.shards):
            return 0
        own = sizes[self.shards]
        change = np.zeros(int(self.last_Q.max()) + 2, np.int64)
        np.add.at(change, self.first_Q, own)
        np.add.at(change, self.last_Q + 1, -own)
        return int(min(np.cumsum(change).max() + ahead * own.max(), own.sum()))


class ShardsAhead:
    """Has the next shards fetched by threads while a stream is consumed.

    Args:
        reader: fetches and keeps shards.
        shards: the shard of each row.
        depth: shards to fetch ahead of the step that is being loaded.
        threads: shards that are on their way at once.
    """

    def __init__(
        self, reader: FetchedShards, shards: ShardsOfRows, depth: int = 8, threads: int = 4
    ) -> None:
        self.reader, self.shards = reader, shards
        self._depth, self._threads = depth, threads

    @contextmanager
    def follow(self, plan: EpochPlan, rank: int, world_size: int) -> Iterator[Run]:
        """Fetch what this worker needs of ``plan``, step by step, until the context ends.

        Raises:
            ConfigError: the disk cache cannot hold what is needed at once.
        """
        schedule = Schedule.of(plan, self.shards, rank, world_size)
        self._check_limit(schedule)
        run = Run(self.reader, self.shards, schedule, self._depth)
        threads = [
            Thread(target=run.fetch_all, name="kdcache-fetch", daemon=True)
            for _ in range(self._threads)
        ]
        for thread in threads:
            thread.start()
        try:
            yield run
        finally:
            run.stop()
            for thread in threads:
                thread.join(_FAREWELL)

    def _check_limit(self, schedule: Schedule) -> None:
        sizes = np.array([record.size for record in self.shards.records], np.int64)
        needed, limit = schedule.most_bytes(sizes, self._depth), self.reader.disk.limit
        if needed > limit:
            raise ConfigError(
                f"the disk cache may hold {limit:,} bytes, and this order needs shards of "
                f"{needed:,} bytes at once; raise disk_cache_bytes, or lower window_shards or "
                "ahead_shards"
            )


class Run:
    """One epoch's fetching. :meth:`advance` and :meth:`fetch_all` are called by other threads."""

    def __init__(
        self, reader: FetchedShards, shards: ShardsOfRows, schedule: Schedule, depth: int
    ) -> None:
        self._reader, self._shards, self._schedule = reader, shards, schedule
        self._depth = depth
        self._first = schedule.first_Q.tolist()
        self._turn = Condition()
        self._next, self._end, self._step = 0, 0, 0
        self._stopped = False

    def advance(self, step: int) -> None:
        """The stream loads ``step`` now: what only earlier ones needed may be deleted."""
        begun = bisect_right(self._first, step)
        end = min(begun + self._depth, len(self._first))
        places = np.flatnonzero(self._schedule.last_Q[:end] >= step)
        needed = self._schedule.shards[places].tolist()
        self._reader.need([self._shards.records[number] for number in needed])
        with self._turn:
            self._step, self._end = step, end
            self._turn.notify_all()

    def fetch_all(self) -> None:
        """Fetch one shard after the other as far as the stream has come; what one thread does."""
        while (place := self._take()) is not None:
            record = self._shards.records[int(self._schedule.shards[place])]
            try:
                if self._wait_for_room(place, record):
                    self._reader.fetch(record)
            except KdcacheError:
                continue  # whoever reads it tries again, and is told

    def stop(self) -> None:
        """Let the threads end after the shard that they are fetching."""
        with self._turn:
            self._stopped = True
            self._turn.notify_all()

    def _take(self) -> int | None:
        with self._turn:
            while not self._stopped and self._next < len(self._first):
                if self._next < self._end:
                    self._next += 1
                    return self._next - 1
                self._turn.wait()
        return None

    def _wait_for_room(self, place: int, record: FileRecord) -> bool:
        """Whether to fetch it: there is room, and it is still needed."""
        while True:
            with self._turn:
                if self._stopped or self._schedule.last_Q[place] < self._step:
                    return False
                late = self._schedule.first_Q[place] <= self._step
            if late or self._reader.has_room(record):
                return True
            with self._turn:
                self._turn.wait(_LOOK_AGAIN)
