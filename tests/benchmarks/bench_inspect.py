"""Time the first output of ``kdcache inspect`` on large catalogues, and what all of it takes.

    python tests/benchmarks/bench_inspect.py             a million utterances, half a minute
    python tests/benchmarks/bench_inspect.py --slow      a hundred million as well: 60 GB of disk,
                                                         3 minutes to write them on a quiet machine

Synthetic rows as of ``bench_catalogue.py``. Each run is a process of its own; its imports, as of
``kdcache inspect`` on a small cache, are told apart. Memory is the process's peak without pages
of the mapped index, which belong to the machine's cache of files.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench_catalogue import write_parts
from rows import Row, arguments, publish
from synthetic_index import write_synthetic

from kdcache.store import compact

RUN = """
import json, re, sys, threading, time
import kdcache.cli.inspect, kdcache.inspect.summary, kdcache.inspect.text, kdcache.inspect.select
import kdcache.inspect.listing, kdcache.inspect.where, pyarrow.parquet
from kdcache.cli.main import main
def memory():
    status = open("/proc/self/status").read()
    return int(re.search(r"RssAnon:\\s+(\\d+)", status)[1]) * 1024
before, most, over = memory(), [0], threading.Event()
def watch():
    while not over.wait(0.02):
        most[0] = max(most[0], memory())
threading.Thread(target=watch, daemon=True).start()
first = None
class Enough(Exception): pass
class Out:
    def write(self, text):
        global first
        first = first or (time.perf_counter(), time.process_time())
        if sys.argv[1] == "ls": raise Enough  # as of | head -n 1
    def flush(self): pass
    def isatty(self): return False
real, sys.stdout = sys.stdout, Out()
start, used = time.perf_counter(), time.process_time()
try:
    main.main(sys.argv[1:], standalone_mode=False)
except Enough: pass
end = time.perf_counter()
over.set()
seen, computed = first or (end, time.process_time())
figures = [seen - start, end - start, max(most[0], memory()) - before, computed - used]
print(json.dumps(figures), file=real)
"""


def measure(*arguments: str, times: int) -> list[float]:
    """Of the best of some runs: seconds to the first output and to the last, bytes, and seconds
    that it computed until the first output, whatever else the machine did."""
    import json

    runs = []
    for _ in range(times):
        command = [sys.executable, "-c", RUN, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        runs.append(json.loads(done.stdout))
    return min(runs)


def start_up(times: int) -> float:
    """Seconds of ``kdcache --help``, the interpreter's own start among them."""
    found = []
    for _ in range(times):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "kdcache", "--help"], capture_output=True, check=True)
        found.append(time.perf_counter() - start)
    return min(found)


def catalogue(folder: Path, count: int, unit_rows: int, targets: int) -> Path:
    """A catalogue of so many rows in ``folder``, made unless it is there."""
    large = folder / f"{count}-by-{unit_rows}-of-{targets}"
    if not (large / "done").exists():
        large.mkdir(parents=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            parts = Path(scratch) / "parts"
            write_parts(parts, 10, targets)
            compact(parts)
            write_synthetic(large, parts, count, unit_rows)
        (large / "done").touch()
    return large


def rows_of(name: str, large: Path, times: int) -> list[Row]:
    """Look at a catalogue."""
    path = str(large)
    first, whole, memory, computed = measure("inspect", path, times=times)
    _, chosen, chosen_memory, _ = measure(
        "inspect", path, "--where", "duration > 10 and kl > 0.0005", "--sort", "kl", times=times
    )
    listed, *_ = measure("ls", path, "--where", "kl > 0.0005", times=times)
    page = large.parent / "report.html"
    told, _, told_memory, _ = measure(
        "report", path, "-o", str(page), "--top", "0", "--sample", "0", times=times
    )
    size = page.stat().st_size
    page.unlink()
    return [
        Row(f"inspect.{name}.first", first, "s to the first line"),
        Row(f"inspect.{name}.first.cpu", computed, "s computed to the first line"),
        Row(f"inspect.{name}", whole, "s for the whole screen"),
        Row(f"inspect.{name}.memory", memory / 1e6, "MB at the peak"),
        Row(f"inspect.{name}.where", chosen, "s for --where and --sort"),
        Row(f"inspect.{name}.where.memory", chosen_memory / 1e6, "MB at the peak"),
        Row(f"inspect.{name}.ls", listed, "s to the first line of ls --where"),
        Row(f"report.{name}", told, "s for a page without pictures"),
        Row(f"report.{name}.memory", told_memory / 1e6, "MB at the peak"),
        Row(f"report.{name}.page", size / 1e6, "MB of HTML"),
    ]


def main() -> None:
    """Print the rows."""
    parser = arguments(__doc__)
    parser.add_argument("--slow", action="store_true", help="a hundred million rows as well")
    parser.add_argument("--times", type=int, default=2, help="runs, of which the best counts")
    parser.add_argument("--folder", type=Path, help="make catalogues here, and leave them there")
    args = parser.parse_args()
    rows = [Row("cli.help", start_up(5), "s")]
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.folder or Path(scratch)
        rows += rows_of("1m", catalogue(folder, 1_000_000, 200, 3), args.times)
        if args.slow:
            rows += rows_of("100m", catalogue(folder, 100_000_000, 2000, 1), args.times)
    publish(rows, args.json)


if __name__ == "__main__":
    main()
