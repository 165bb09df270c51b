"""Time how an epoch is put into order, beside the plain loop over rows that it is equal to.

    python tests/benchmarks/bench_plan.py                  a million rows, half a minute
    python tests/benchmarks/bench_plan.py --rows 10000000

Durations are normal around 12 s, micro-batches of 400 s. The window mixes 64 shards of 500 rows.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rows import Row, arguments, publish

from kdcache.store.files import FileRecord
from kdcache.store.shards import ShardsOfRows
from kdcache.stream.ahead import Schedule
from kdcache.stream.plan import plan_epoch
from kdcache.stream.window import measure_shuffle, plan_window

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "property"))
from test_plan_is_the_simple_one import simple_plan

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

SHARD_ROWS, WINDOW = 500, 64


def best(work: Callable[[], Any], times: int) -> tuple[float, Any]:
    """Seconds of the fastest of some runs, and what came out."""
    seconds, result = [], None
    for _ in range(times):
        begun = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - begun)
    return min(seconds), result


def main() -> None:
    """Measure and publish."""
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    args = parser.parse_args()
    count = args.rows
    durations = np.clip(np.random.default_rng(0).normal(12, 4, count), 1, 35)
    order = {"seed": 0, "epoch": 0, "batch_seconds": 400.0}
    loop, plain = best(lambda: simple_plan(durations, 0, 0, 400.0, True), 2)
    ours, plan = best(lambda: plan_epoch(durations, **order), 5)
    assert [plan.batch(number).tolist() for number in range(len(plan))] == plain
    records = [FileRecord(f"data/{n}", 1, "") for n in range(-(-count // SHARD_ROWS))]
    shards = ShardsOfRows((np.arange(count) // SHARD_ROWS).astype(np.int32), tuple(records))
    window, mixed = best(lambda: plan_window(durations, shards, WINDOW, **order), 3)
    known, schedule = best(lambda: Schedule.of(mixed, shards, 0, 1), 3)
    quality = measure_shuffle(mixed, shards)
    sizes = np.ones(len(records), np.int64)
    publish(
        [
            Row("stream.plan", ours, f"s for {count:,} rows", "loop over rows", loop / ours),
            Row("stream.plan.window", window + known, f"s for {count:,} rows, with its schedule"),
            Row("stream.window.distance", quality.distance, "of a shuffle of all rows"),
            Row("stream.window.one_shard", quality.one_shard, "of a micro-batch"),
            Row("stream.window.shards", schedule.most_bytes(sizes, 0), f"at once, of {len(sizes)}"),
        ],
        args.json,
    )


if __name__ == "__main__":
    main()
