"""Bytes of collapsed lattices against what is lost: ours, a byte a class, and half precision.

    python tests/benchmarks/bench_lattice_bytes.py                 half a minute
    python tests/benchmarks/bench_lattice_bytes.py --teacher DIR --manifest FILE

Lattices are blank, label and rest of each node in a band of 5 columns a frame. They are those of
the demos' teachers where ``make demo`` and ``make demo-real`` have left them in build/, and always
those of a stated simulation (``peaky_lattices``), whose figures are the ones without a teacher.
Loss is the divergence of the teacher's node from the decoded one over these three classes, mean
over nodes, in nats. Bytes include headers and the windows' starts, not the container. Speed is
audio over the time that a core was busy, best of some runs. It reports and asserts nothing.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from peaky_lattices import Lattices, of_teacher, simulate
from rows import Row, arguments, publish

from kdcache.codec import LatticeRecord, make_codec
from kdcache.codec.divergence import divergence
from kdcache.stream.packed import collate_packed

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

LEVELS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
GOAL = 1e-3
STEPS = (2, 3, 4, 5, 6, 8, 10, 12, 14, 15, 16, 17, 18, 20, 24, 28, 32, 40, 48, 56, 64, 80, 128, 192,
         256)  # fmt: skip
SPEED_GOALS = {"encode": 1_000, "decode": 5_000}
REPEATS = 5
BATCH = 16


class Point(NamedTuple):
    """A codec on some lattices: bytes per second of audio, nats a node (mean, 99th percentile)."""

    settings: dict[str, Any]
    size: float
    mean: float
    high: float


def parse_args() -> argparse.Namespace:
    """Which lattices."""
    parser = arguments(__doc__)
    parser.add_argument("--teacher", type=Path, help="a transducer's directory")
    parser.add_argument("--manifest", type=Path, help="its utterances")
    parser.add_argument("--utterances", type=int, default=20)
    return parser.parse_args()


def sets(args: argparse.Namespace) -> Iterator[Lattices]:
    """All lattices to measure."""
    if args.teacher:
        yield of_teacher(args.teacher, args.manifest, args.utterances)
        return
    for demo in (Path("build/demo"), Path("build/demo-real")):
        teacher, manifest = demo / "teacher" / "student", demo / "student.jsonl"
        if teacher.is_dir() and manifest.is_file():
            yield of_teacher(teacher, manifest, args.utterances)
    yield simulate(args.utterances)


def measure(settings: dict[str, Any], records: Sequence[LatticeRecord], seconds: float) -> Point:
    """Size and loss."""
    codec = make_codec("lattice", settings)
    size, lost = 0, []
    for record in records:
        columns = codec.encode(record)
        decoded = codec.decode(columns)
        assert isinstance(decoded, LatticeRecord)
        size += sum(array.nbytes for array in columns.values())
        lost.append(divergence(record.logp_TSC, decoded.logp_TSC).reshape(-1))
    kl = np.concatenate(lost)
    return Point(settings, size / seconds, float(kl.mean()), float(np.quantile(kl, 0.99)))


def speeds(settings: dict[str, Any], lattices: Lattices) -> tuple[float, float]:
    """Encoding, and decoding to padded batches, × real time."""
    codec = make_codec("lattice", settings)
    parts = [codec.encode(record) for record in lattices.bands]
    batches = [parts[i : i + BATCH] for i in range(0, len(parts), BATCH)]
    encode = best_of(lambda: [codec.encode(record) for record in lattices.bands])
    decode = best_of(lambda: [collate_packed(codec, batch) for batch in batches])
    return lattices.seconds / encode, lattices.seconds / decode


def best_of(run: Any) -> float:
    """Least seconds of several runs."""
    found = []
    for _ in range(REPEATS):
        start = time.process_time()
        run()
        found.append(time.process_time() - start)
    return min(found)


def curve(points: Sequence[Point]) -> None:
    """The cheapest setting for each loss."""
    for level in LEVELS:
        point = cheapest(points, level)
        name = ", ".join(f"{k} {v}" for k, v in point.settings.items() if k != "name")
        print(
            f"    at most {level:.0e}: {point.settings['name']} {name:12} {point.size:8.1f} B/s, "
            f"mean {point.mean:.2e}, 99 % {point.high:.2e}"
        )


def cheapest(points: Sequence[Point], level: float) -> Point:
    """Of those that lose no more than this; of the finest if all lose more."""
    enough = [point for point in points if point.mean <= level]
    return min(enough, key=lambda p: p.size) if enough else min(points, key=lambda p: p.mean)


def report(lattices: Lattices) -> list[Row]:
    """The curve, and rows."""
    bands, seconds = lattices.bands, lattices.seconds
    ours = [measure({"name": "root", "steps": steps}, bands, seconds) for steps in STEPS]
    bytes_ = [measure({"name": "log8", "floor": floor}, bands, seconds) for floor in (8, 16)]
    half = measure({"name": "fp16"}, bands, seconds)
    whole = measure({"name": "fp16"}, lattices.whole, seconds)
    print(f"\n{lattices.name}: {len(bands)} utterances, {seconds:.0f} s")
    curve(ours)
    for point in (*bytes_, half):
        print(f"    {point.settings}: {point.size:.1f} B/s, mean {point.mean:.2e}")
    kind = lattices.name.split(",")[0]
    rows = []
    for level in LEVELS:
        own, fixed = cheapest(ours, level), bytes_[1]
        peers = {"a byte a class": fixed.size}
        if level == GOAL:
            best = own
            peers |= {"fp16": half.size, "whole lattices, fp16": whole.size, "the goal of 400": 400}
        name = "bytes_at_equal_kl" if level == GOAL else f"bytes_at_kl_{level:.0e}"
        rows += [
            Row(f"codec.lattice.{name}.{kind}", own.size, "B/s of audio", peer, size / own.size)
            for peer, size in peers.items()
        ]
    for (what, goal), speed in zip(
        SPEED_GOALS.items(), speeds(best.settings, lattices), strict=True
    ):
        asked = f"the goal of {goal:,}"
        rows.append(Row(f"codec.lattice.{what}.{kind}", speed, "× real time", asked, speed / goal))
    return rows


def main() -> None:
    """Measure and publish."""
    args = parse_args()
    torch.set_num_threads(1)
    rows = [row for lattices in sets(args) for row in report(lattices)]
    print()
    publish(rows, args.json)


if __name__ == "__main__":
    main()
