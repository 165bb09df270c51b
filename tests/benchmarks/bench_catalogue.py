"""Time how a cache opens: part by part, and through its index, with synthetic rows.

    python tests/benchmarks/bench_catalogue.py                     half a minute, 1 GB of memory
    python tests/benchmarks/bench_catalogue.py --rows 10000000     a minute, 6 GB of disk
    python tests/benchmarks/bench_catalogue.py --rows 100000000 --unit-rows 2000 --targets 1

Parts are those of a real writer. The large index has rows of the same schema with made-up
contents and no shards, and a commit record a unit, since every opening lists these. Each
opening is a process of its own; memory is what the process grew by at its peak, pages of the
mapped file among it. Then what a stream does before its first batch: take the columns that it
needs (source), put an epoch into order (plan), and, when a position is saved, digest the ids;
megabytes of these are what each adds to the peak. It reports and asserts nothing.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
from synthetic_index import write_synthetic

from kdcache.store import compact, create_or_open
from kdcache.testing.samples import TOKENIZER_FILES, sample_packed, sample_spec

UNIT_ROWS = 200

OPEN = """
import json, re, sys, time
from kdcache.store import open_cache
import numpy, pyarrow.ipc
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
before, start = peak(), time.perf_counter()
cache = open_cache(sys.argv[1])
opened = time.perf_counter() - start
grown = peak() - before
rng = numpy.random.default_rng(0)
ids = [cache._snapshot.ids[int(row)] for row in rng.integers(len(cache), size=2000)]
start = time.perf_counter()
for name in ids:
    row = cache._snapshot.rows[name]
    for places in map(cache._snapshot.places.__getitem__, cache.columns):
        places.at_N[row], places.shape_NA[row], places.hash_N[row]
found = (time.perf_counter() - start) / len(ids)
start = time.perf_counter()
seconds = float(cache.catalogue["duration"].to_numpy().sum())
summed = time.perf_counter() - start
figures = {"open": opened, "bytes": grown, "find": found, "sum": summed}
from kdcache.stream.plan import plan_epoch
from kdcache.stream.source import CacheSource
def stage(name, work):
    before, start = peak(), time.perf_counter()
    result = work()
    figures[name], figures[name + "_bytes"] = time.perf_counter() - start, peak() - before
    return result
source = stage("source", lambda: CacheSource(cache, []))
stage("plan", lambda: plan_epoch(source.durations, seed=0, epoch=0, batch_seconds=400.0))
stage("digest", lambda: source.snapshot)
print(json.dumps(figures))
"""


def measure(path: Path, times: int = 2) -> dict[str, float]:
    """The best of some openings, each in a process of its own."""
    runs = []
    for _ in range(times):
        done = subprocess.run(
            [sys.executable, "-c", OPEN, str(path)], capture_output=True, text=True, check=True
        )
        runs.append(json.loads(done.stdout))
    return min(runs, key=lambda run: run["open"])


def show(name: str, rows: int, units: int, found: dict[str, float]) -> None:
    """One line."""
    print(
        f"{name:12}{rows:>12,} rows {units:>9,} units   open {found['open']:8.3f} s "
        f"{found['bytes'] / 1e6:8.0f} MB   find {found['find'] * 1e6:6.0f} µs   "
        f"sum of durations {found['sum'] * 1e3:7.1f} ms"
    )
    stages = (
        f"{stage} {found[stage]:7.2f} s {found[f'{stage}_bytes'] / 1e6:6.0f} MB"
        for stage in ("source", "plan", "digest")
    )
    print(f"{'':12}to stream from it: {'   '.join(stages)}")


def write_parts(path: Path, units: int, targets: int) -> None:
    """A cache of small units, by the real writer."""
    spec = replace(sample_spec(), targets=sample_spec().targets[:targets])
    writer = create_or_open(path, spec, "webdataset", TOKENIZER_FILES)
    item = sample_packed(writer.spec, "a")
    for unit in range(units):
        packed = [
            replace(item, utterance=replace(item.utterance, id=f"utt-{unit:06d}-{row:03d}"))
            for row in range(UNIT_ROWS)
        ]
        writer.commit(f"{unit:064x}", packed, [], "bench")


def main() -> None:
    """Print one line a way of opening."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", type=int, default=200, help="units to open part by part")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the large index")
    parser.add_argument("--unit-rows", type=int, default=UNIT_ROWS, help="of the large index")
    parser.add_argument("--targets", type=int, default=3, help="of a cache, 1 to 3")
    parser.add_argument("--times", type=int, default=2, help="openings, of which the best counts")
    args = parser.parse_args()
    print(
        f"{platform.machine()}, Python {platform.python_version()}, pyarrow {pa.__version__}, "
        f"local disk, warm, best of {args.times}, {time.strftime('%Y-%m-%d')}"
    )
    with tempfile.TemporaryDirectory() as folder:
        parts, large = Path(folder) / "parts", Path(folder) / "large"
        write_parts(parts, args.parts, args.targets)
        show("parts", args.parts * UNIT_ROWS, args.parts, measure(parts))
        compact(parts)
        show("index", args.parts * UNIT_ROWS, args.parts, measure(parts))
        large.mkdir()
        write_synthetic(large, parts, args.rows, args.unit_rows)
        units = -(-args.rows // args.unit_rows)
        show("index", args.rows, units, measure(large, args.times))
        size = sum(file.stat().st_size for file in (large / "index").iterdir())
        print(f"index of {size / args.rows:.0f} bytes a row")


if __name__ == "__main__":
    main()
