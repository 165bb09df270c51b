"""Hours of training from an object store that is slow and fails: nothing lost, nothing grows.

    make test-soak                     half an hour
    KDCACHE_SOAK_SECONDS=60 pytest tests/soak -s

Streams read a cache through a server that delays each answer and fails one of twenty requests,
with a disk cache so small that every epoch fetches nearly every shard anew. One or two workers
share the disk; they stop at random steps and go on as another number of workers. Every epoch has
to hold every utterance once. Memory and the longest wait are printed, and have bounds.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kdcache.store import compact, create_or_open, open_cache
from kdcache.stream import stream_cache
from kdcache.testing.samples import TOKENIZER_FILES, sample_packed, sample_spec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kdcache.stream import Stream

SECONDS = float(os.environ.get("KDCACHE_SOAK_SECONDS", "20"))
LATENCY, ERRORS = 0.05, 0.05
UNITS, EACH = 60, 16
STEP_SECONDS = 0.02
"""What a step of the student takes that waits for these streams."""

LONGEST_STALL = 15.0
"""Seconds: a shard that is late by all its tries, less what was fetched before it."""

GROWTH = 40e6
"""Bytes that the process may grow by in the second half: allocators, not caches."""

pytest.importorskip("obstore", reason="object stores need obstore")


@dataclass
class Tally:
    """What happened."""

    epochs: int = 0
    steps: int = 0
    resumed: int = 0
    stalls: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    fetched: int = 0
    refetched: int = 0


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A cache at ``s3://…``, written the healthy way and from now on read the faulty one."""
    pytest.importorskip("moto.server", reason="the S3 tests need moto, flask and flask-cors")
    command = [sys.executable, str(Path(__file__).with_name("faulty_s3.py"))]
    options = ["--latency", str(LATENCY), "--errors", str(ERRORS)]
    pipe = subprocess.PIPE
    with subprocess.Popen([*command, *options], stdin=pipe, stdout=pipe, text=True) as server:
        assert server.stdout is not None
        ways = json.loads(server.stdout.readline())
        for name, value in ways["environment"].items():
            monkeypatch.setenv(name, value)
        url = "s3://kdcache-tests/soak"
        fill(url)
        monkeypatch.setenv("AWS_ENDPOINT_URL", ways["faulty"])
        yield url
        assert server.stdin is not None
        server.stdin.close()


def fill(url: str) -> None:
    writer = create_or_open(url, sample_spec(), "webdataset", TOKENIZER_FILES)
    for unit in range(UNITS):
        packed = [sample_packed(writer.spec, f"{unit:03d}-{i:02d}") for i in range(EACH)]
        writer.commit(f"u{unit:03d}", packed, [], "x")
    compact(url)


def streams(url: str, disk: Path, limit: int, workers: int) -> list[Stream]:
    shared: dict[str, Any] = {
        "batch_seconds": 40.0,
        "micro_batches_per_step": 2,
        "window_shards": 6,
        "ahead_shards": 8,
        "disk_cache": disk,
        "disk_cache_bytes": limit,
    }
    cache = open_cache(url)
    return [stream_cache(cache, rank=rank, world_size=workers, **shared) for rank in range(workers)]


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def consume(workers: list[Stream], until: int, tally: Tally) -> list[str]:
    """Ids of the next ``until`` steps of all workers, each of which must have all of them."""
    ids: list[str] = []
    running = [worker.steps() for worker in workers]
    for _ in range(until):
        before = [worker.waited for worker in workers]
        shares = [next(steps, None) for steps in running]
        if all(share is None for share in shares):
            break
        for share in shares:
            assert share is not None, "workers end an epoch together"
            ids += [name for batch in share.batches for name in batch.ids]
        tally.steps += 1
        tally.stalls.append(max(w.waited - b for w, b in zip(workers, before, strict=True)))
        time.sleep(STEP_SECONDS)
    for steps in running:
        steps.close()  # type: ignore[attr-defined]
    return ids


def soak(url: str, disk: Path, tally: Tally) -> None:
    """Epoch after epoch until time is up, each begun by one or two workers and stopped once."""
    draw = random.Random(1)
    cache = open_cache(url)
    expected, largest = cache.ids, max(r.size for r in cache.shards_of_rows().records)
    limit, end, state = 40 * largest, time.monotonic() + SECONDS, None
    while time.monotonic() < end:
        ids: list[str] = []
        stop = draw.randint(1, 20)
        for until in (stop, 10**9):
            workers = streams(url, disk, limit, draw.choice([1, 2]))
            for worker in workers:
                if state is not None:
                    worker.load_state_dict(state)
            ids += consume(workers, until, tally)
            state = json.loads(json.dumps(workers[0].state_dict()))
            tally.fetched += sum(worker.counters.fetched for worker in workers)
            tally.refetched += sum(worker.counters.refetched for worker in workers)
            tally.resumed += 1
        assert sorted(ids) == expected, "an utterance was lost or repeated"
        tally.epochs += 1
        assert state["epoch"] == tally.epochs
        tally.memory.append(resident_bytes())


def test_soak(faulty: str, tmp_path: Path) -> None:
    tally = Tally()
    soak(faulty, tmp_path / "disk", tally)
    way = os.environ["AWS_ENDPOINT_URL"]
    requests, failed = json.loads(urllib.request.urlopen(f"{way}/-/counts").read())
    half = len(tally.memory) // 2
    early, late = max(tally.memory[: half + 1]), max(tally.memory[half:])
    stalls = sorted(tally.stalls)
    running = tally.steps * STEP_SECONDS + sum(stalls)
    print(
        f"\n{SECONDS:.0f} s: {tally.epochs} epochs, {tally.steps} steps, {tally.resumed} starts; "
        f"{requests} requests, {failed} failed, {tally.fetched} shards fetched, "
        f"{tally.refetched} again; stall {sum(stalls) / running:.2%} of the time, the longest "
        f"{stalls[-1]:.2f} s, the median {stalls[len(stalls) // 2]:.4f} s; memory at most "
        f"{early / 1e6:.0f} MB in the first half of the epochs, {late / 1e6:.0f} MB in the second"
    )
    assert tally.epochs >= 1
    assert failed > 0, "the way was faulty"
    assert tally.fetched >= UNITS
    assert stalls[-1] < LONGEST_STALL
    assert late - early < GROWTH
