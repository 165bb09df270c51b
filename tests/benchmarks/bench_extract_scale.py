"""How an extraction's throughput grows with its actors, and how many a driver can serve.

    python tests/benchmarks/bench_extract_scale.py                         1, 4, 16; four minutes
    python tests/benchmarks/bench_extract_scale.py --actors 64 256 --no-commits --sleep 20

The teachers of these actors sleep instead of computing; all else is the real thing: the pool, the
plan of a million utterances, the events file, Ray's calls, and a commit of each unit to a cache on
disk. The actors, processes that take a fraction of a CPU each, lie on four raylets of this
machine. Throughput is taken while all of them are at work, their start left out. An actor that
commits takes 111 MB that it shares with none; with ``--no-commits`` actors only sleep, in processes
that know neither numpy nor Arrow, so that 256 of them fit where these would not.

What a driver can serve is told by its processor time, which depends little on what else the
machine does: for a unit of a pool whose actors are plain objects and done at once, the same with
Ray, and while actors sleep. A driver is saturated where it takes all of one core. Commits are the
actors' work; a bare loop of them is there for comparison.
"""

from __future__ import annotations

import contextlib
import math
import os
import pickle
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rows import Row, arguments, publish

from kdcache.corpus.table import UtteranceTable
from kdcache.extract.events import EventLog
from kdcache.extract.plan import plan_units
from kdcache.extract.pool import Done, Pool
from kdcache.extract.queue import WorkQueue
from kdcache.extract.record import Record
from kdcache.extract.tally import Tally
from kdcache.types import AudioRef, Utterance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kdcache.extract.plan import PlannedUnits, Unit
    from kdcache.store import CacheSpec, PackedUtterance

RAYLETS = 4
PLANNED = 1_000_000
UNIT, SMALL_UNIT = 200, 8
"""Utterances of a unit: as an extraction has them, and few, of which a commit is little work."""

UNIT_SECONDS = 60.0
"""Of an actor with a unit of 200 utterances, to say how many actors a driver can serve."""

SETTLE = 3
"""Units of every actor before it counts: the first takes longer, and the next makes up for it."""

PATIENCE = 1200.0


@dataclass(frozen=True)
class Job:
    """What a sleeping actor is told: seconds a unit, and the cache to commit to, if any."""

    seconds: float
    cache: str | None
    spec: CacheSpec
    packed: PackedUtterance


def private_bytes() -> int:
    """What this process shares with none."""
    rows = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(row.split()[1]) for row in rows if row.startswith("Private_"))


class SleepingActor:
    """In the place of ``kdcache.extract.actor.ExtractActor``."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._teacher = threading.Lock()

    def start(self) -> None:
        """Open the cache."""
        from kdcache.store import open_for_write

        self._writer = open_for_write(self._job.cache) if self._job.cache else None

    def extract(self, unit: Unit) -> Done:
        """Sleep, one unit at a time, and commit."""
        begun = time.monotonic()
        with self._teacher:
            time.sleep(self._job.seconds)
        size = 0
        if self._writer is not None:
            size = commit(self._writer, unit, self._job.packed).bytes
        return Done(len(unit), 0, 12.0 * len(unit), time.monotonic() - begun, bytes=size)

    def memory(self) -> int:
        """Bytes of this process that it shares with none."""
        return private_bytes()


class Napper:
    """The same without commits. Nothing here needs a library: its process is half as large."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._teacher = threading.Lock()

    def start(self) -> None:
        """Nothing is to be opened."""

    def extract(self, utterances: int, unit: bytes) -> tuple[int, float]:
        """Sleep, one unit at a time: how long it took, the wait for the one before included."""
        begun = time.monotonic()
        with self._teacher:
            time.sleep(self._seconds)
        return utterances, time.monotonic() - begun

    def memory(self) -> int:
        """Bytes of this process that it shares with none."""
        return private_bytes()


class Instant:
    """Actors of this process that are done at once."""

    def __init__(self) -> None:
        self._known = 0

    def spawn(self) -> tuple[int, Any]:
        self._known += 1
        return self._known, (self._known, None)

    def submit(self, actor: int, unit: Unit) -> Any:
        return actor, unit.key, Done(len(unit), 0, 12.0 * len(unit), 1.0)

    def wait(self, calls: Any, seconds: float) -> list[Any]:
        return list(calls)[:1]

    def result(self, call: Any) -> Done | None:
        return call[-1]

    def kill(self, actor: int) -> None:
        pass


class NoMetrics:
    def update(self, now: object) -> None:
        pass


def commit(writer: Any, unit: Unit, packed: PackedUtterance) -> Any:
    """A unit whose utterances all have the same contents."""
    items = [replace(packed, utterance=u) for batch in unit.batches for u in batch]
    return writer.commit(unit.key, items, (), "bench")


def corpus(count: int) -> UtteranceTable:
    def utterances() -> Iterator[Utterance]:
        for n in range(count):
            audio = AudioRef(f"/corpora/train/{n // 1000:06d}/{n:09d}.flac", 0.0, 5.0 + n % 20)
            yield Utterance(f"utterance-{n:09d}", audio, f"what was said in number {n}")

    return UtteranceTable.of(utterances())


def planned(table: UtteranceTable, size: int, name: str) -> PlannedUnits:
    """Units with names of their own, so that none is in the cache already."""
    return plan_units(table, spec=name, unit_utterances=size, batch_seconds=120.0).units


@dataclass(frozen=True)
class Measured:
    """What was seen while all actors were at work.

    Attributes:
        cycle: seconds from one unit of an actor to its next, the mean.
        processor: seconds of the driver's processor time a unit.
    """

    cycle: float
    processor: float


class Window:
    """Times units from a while after all actors have started, for so long.

    Args:
        actors: that must have started.
        settle: seconds after that until it begins.
        seconds: that it lasts, at least.
    """

    def __init__(self, actors: int, settle: float, seconds: float) -> None:
        self._actors, self._settle, self._seconds = actors, settle, seconds
        self._deadline = time.monotonic() + PATIENCE
        self._alive, self._complete = 0, math.inf
        self._times: list[float] = []
        self._processor: list[float] = []

    def tell(self, event: str, /, **about: Any) -> None:
        self._alive = about.get("actors", self._alive)
        if self._alive >= self._actors:
            self._complete = min(self._complete, time.monotonic())

    def add(self, done: Done) -> None:
        if time.monotonic() >= self._complete + self._settle:
            self._times.append(time.monotonic())
            self._processor.append(time.process_time())

    def keep_going(self) -> bool:
        now = time.monotonic()
        assert now < self._deadline, f"{self._alive} of {self._actors} actors have started"
        enough = len(self._times) > 2 * self._actors
        return now < self._complete + self._settle + self._seconds or not enough

    def measured(self) -> Measured:
        """Units come in bursts where actors began together, but of a number of actors that are
        all at work the next so many units take one cycle, wherever one begins to count."""
        n, times = self._actors, self._times
        cycles = [later - earlier for earlier, later in zip(times, times[n:], strict=False)]
        processor = (self._processor[-1] - self._processor[0]) / (len(times) - 1)
        return Measured(sum(cycles) / len(cycles), processor)


def play(actors: Any, units: PlannedUnits, count: int, window: Window, log: Path) -> Measured:
    """Run a pool as an extraction does, until the window is over."""
    tally = Tally(units.utterances, lambda _: None)
    record = Record(tally, EventLog(log), NoMetrics())  # type: ignore[arg-type]

    def on_done(done: Done) -> None:
        record.add(done)
        window.add(done)

    def tell(event: str, /, **about: Any) -> None:
        record.tell(event, **about)
        window.tell(event, **about)

    def keep_going() -> bool:
        record.show()
        return window.keep_going()

    queue = WorkQueue(units, 3)
    pool = Pool(
        actors,
        queue,
        size=count,
        max_attempts=3,
        on_done=on_done,
        give_up=lambda *_: None,
        tell=tell,
    )
    pool.run(keep_going)
    return window.measured()


@contextmanager
def raylets(actors: int) -> Iterator[float]:
    """Ray on four nodes that hold so many actors; what fraction of a CPU each of these takes."""
    os.environ.update({"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"})
    os.environ.setdefault("RAY_health_check_failure_threshold", "40")
    # What sleeps may be swapped out: Ray would kill actors where 95 % of the memory is in use.
    os.environ.setdefault("RAY_memory_monitor_refresh_ms", "0")
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    try:
        for node in range(RAYLETS):
            first = {"include_dashboard": False} if node == 0 else {}
            cluster.add_node(num_cpus=2, object_store_memory=100_000_000, **first)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        # A little less than would fill the nodes, since fractions are rounded.
        yield int(1e4 * 2 * RAYLETS / max(actors, 2 * RAYLETS)) / 1e4
    finally:
        ray.shutdown()
        cluster.shutdown()


def sleepers(job: Job, cpus: float, light: bool = False) -> Any:
    """Ray's actors, as an extraction calls them; or light ones, which can only sleep."""
    import ray
    from ray.exceptions import RayError

    from kdcache.extract.actor import UNITS_IN_FLIGHT, RayActors

    class Sleepers(RayActors):
        def __init__(self) -> None:
            self._job = ray.put(job.seconds if light else job)
            self._class = ray.remote(Napper if light else SleepingActor).options(
                num_cpus=cpus,
                max_restarts=0,
                max_task_retries=0,
                max_concurrency=UNITS_IN_FLIGHT,
            )
            self.private: int | None = None

        def kill(self, actor: Any) -> None:
            """Ask the first one first what it takes."""
            if self.private is None:
                with contextlib.suppress(RayError):
                    self.private = ray.get(actor.memory.remote(), timeout=60)
            super().kill(actor)

    class Nappers(Sleepers):
        """What travels is as long as a unit; what it holds is not needed there."""

        def submit(self, actor: Any, unit: Unit) -> Any:
            return actor.extract.remote(len(unit), pickle.dumps(unit))

        def result(self, call: Any) -> Done | None:
            told: Any = super().result(call)
            return told and Done(told[0], 0, 12.0 * told[0], told[1])

    return Nappers() if light else Sleepers()


def best(work: Callable[[], float], times: int = 3) -> float:
    """The least of some measurements: the machine may be busy with others' work."""
    return min(work() for _ in range(times))


def commit_seconds(writer: Any, units: Iterator[Unit], packed: PackedUtterance) -> float:
    """Processor time of a commit, in a loop for a while."""
    begun, processor, count = time.monotonic(), time.process_time(), 0
    while time.monotonic() - begun < 2.0:
        commit(writer, next(units), packed)
        count += 1
    return (time.process_time() - processor) / count


def main() -> None:
    """Measure and publish."""
    parser = arguments(__doc__)
    parser.add_argument("--actors", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--sleep", type=float, default=5.0, help="seconds that a unit takes")
    parser.add_argument("--window", type=float, default=30.0, help="seconds that are measured")
    parser.add_argument("--no-commits", action="store_true", help="actors only sleep")
    args = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="kdcache-scale-") as folder:
        try:
            measure_all(args, Path(folder), rows)
        finally:
            publish(rows, args.json)


def measure_all(args: Any, folder: Path, rows: list[Row]) -> None:
    """Add all rows; those before a number of actors that found no memory have been added."""
    from kdcache.store import create_or_open
    from kdcache.testing.samples import TOKENIZER_FILES, sample_packed, sample_spec

    spec, table = sample_spec(), corpus(PLANNED)
    packed, log = sample_packed(spec, "any"), folder / "events.jsonl"
    writer = create_or_open(folder / "cache", spec, "zarr", TOKENIZER_FILES)
    loops = iter(planned(table, UNIT, "loop"))
    each = best(lambda: commit_seconds(writer, loops, packed))
    rows.append(Row("extract.scale.commits", 1 / each, f"units of {UNIT} a second of one core"))

    def alone() -> float:
        units = planned(table, UNIT, "alone")
        return play(Instant(), units, 16, Window(16, 0.0, 2.0), log).processor

    each = best(alone)
    rows.append(Row("extract.scale.driver", 1 / each, f"units of {UNIT} a second, without Ray"))
    with raylets(max(args.actors)) as cpus:
        at_once = sleepers(Job(0.0, None, spec, packed), cpus)
        units = planned(table, UNIT, "ray")
        each = play(at_once, units, 2, Window(2, 1.0, 4.0), log).processor
        rows.append(Row("extract.scale.driver.ray", 1 / each, f"units of {UNIT} a second, busy"))
        served = Row("extract.scale.saturated", UNIT_SECONDS / each, "actors, units of a minute")
        rows.append(served)
        job = Job(args.sleep, None if args.no_commits else str(folder / "cache"), spec, packed)
        for count in args.actors:
            rows += scaled(job, cpus, count, args.window, table, log)


def scaled(
    job: Job, cpus: float, count: int, seconds: float, table: UtteranceTable, log: Path
) -> list[Row]:
    """With so many actors: how near to linear, what the driver and an actor take."""
    actors = sleepers(job, cpus, light=job.cache is None)
    units = planned(table, SMALL_UNIT, f"scale-{count}")
    found = play(actors, units, count, Window(count, SETTLE * job.seconds, seconds), log)
    name, share = "extract.scale" + ("" if job.cache else ".no_commits"), job.seconds / found.cycle
    name = f"{name}.{count}"
    each = found.processor
    return [
        Row(name, count / found.cycle, "units a second", "linear", share),
        Row(f"{name}.driver", 1e3 * each, "ms of the driver's processor time a unit"),
        Row(f"{name}.memory", (actors.private or 0) / 1e6, "MB an actor that it shares with none"),
    ]


if __name__ == "__main__":
    main()
