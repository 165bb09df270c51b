"""Bytes of a really trained transducer's lattices as a band, and what is lost of them.

    python tests/benchmarks/bench_real_band.py                       after `make bench-teacher`
    python tests/benchmarks/bench_real_band.py --room build/real     of this teacher only

The lattices are of speakers that the teacher never heard, of its training set, and of that in
noise, in which a teacher that knows it by heart is no longer sure; collapsed to blank, label and
rest. Ours is codec ``root`` with the fewest steps that lose no more than 1e-3
nats a node: the mean divergence of a node's three classes from what is decoded. Beside it stand
a byte a class (``log8``) and half precision of the same nodes, and half precision of the whole
lattice. The share of the occupancy beyond a band, and how much of the speech the transducer says
by itself, are printed. Bytes are the payload's, without containers. It asserts nothing.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from bench_lattice_bytes import GOAL, STEPS, Point, measure
from noisy_speech import in_noise
from real_posteriors import ROOM, SETS, STUDENT, ask, pick
from rows import Row, arguments, publish

from kdcache.lattice import BandRule
from kdcache.score.report import score_student
from kdcache.student import load_student
from kdcache.target.lattice import collapse_lattice
from kdcache.teacher import load_teacher

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from kdcache.codec import LatticeRecord
    from kdcache.teacher import TeacherOutput
    from kdcache.types import Utterance

BANDS = {
    "whole": BandRule(),
    "epsilon0.001": BandRule(epsilon=1e-3),
    "epsilon0.01": BandRule(epsilon=1e-2),
    "width5": BandRule(width=5),
}
BYTES_GOAL = 400.0
NOISE = (30, 20, 10)
"""Signal-to-noise ratios, dB."""
ROOMS = (ROOM, Path("build/half"))


class Bands(NamedTuple):
    """The same band of some utterances.

    Attributes:
        records: of each utterance.
        outside: share of the occupancy beyond the band, mean over utterances.
        width: columns of a window, mean over frames.
    """

    records: Sequence[LatticeRecord]
    outside: float
    width: float


def collapse(outputs: Sequence[TeacherOutput], rule: BandRule) -> Bands:
    """Of all outputs."""
    records, outside = [], []
    for output in outputs:
        assert output.lattice is not None, "no transducer"
        found = collapse_lattice(output.lattice, output.tokens, 0, rule)
        records.append(found.record)
        outside.append(0.0 if found.band is None else found.band.outside)
    nodes = sum(record.logp_TSC[..., 0].size for record in records)
    frames = sum(output.frames for output in outputs)
    return Bands(records, float(np.mean(outside)), nodes / frames)


def coarsest(records: Sequence[LatticeRecord], seconds: float) -> Point:
    """Codec ``root`` with as few steps as the goal allows."""
    for steps in STEPS:
        point = measure({"name": "root", "steps": steps}, records, seconds)
        if point.mean <= GOAL:
            break
    return point


def rows_of(name: str, bands: Bands, whole: Bands, seconds: float) -> list[Row]:
    """Bytes a second, ours beside the peers'; what is lost is printed."""
    ours = coarsest(bands.records, seconds)
    log8, half = (measure({"name": codec}, bands.records, seconds) for codec in ("log8", "fp16"))
    peers = {
        "a byte a class": log8.size,
        "fp16": half.size,
        "whole lattices, fp16": measure({"name": "fp16"}, whole.records, seconds).size,
        "the goal of 400": BYTES_GOAL,
    }
    print(
        f"  {name:34} S {bands.width:5.1f}, {bands.outside:.1e} of the occupancy outside; root "
        f"{ours.settings['steps']:3}: {ours.size:6.1f} B/s, KL {ours.mean:.1e}, 99 % "
        f"{ours.high:.1e}; log8: {log8.size:7.1f} B/s, KL {log8.mean:.1e}; fp16: "
        f"{half.size:7.1f} B/s"
    )
    return [
        Row(name, ours.size, "B/s of audio", peer, size / ours.size) for peer, size in peers.items()
    ]


def sets(room: Path, count: int, folder: Path) -> Iterator[tuple[str, list[Utterance]]]:
    """Utterances by the name of their set; those in noise are written to a folder."""
    for name, splits in SETS.items():
        yield name, pick(room, splits, count)
    for snr in NOISE:
        heard = pick(room, SETS["heard"], count)
        yield f"heard.{snr}dB", in_noise(heard, snr, folder / f"{room.name}-{snr}")


def report(room: Path, name: str, utterances: Sequence[Utterance]) -> list[Row]:
    """One set of utterances, in all bands."""
    teacher = load_teacher(room / STUDENT)
    outputs = [output for _, output in ask(teacher, utterances)]
    seconds = sum(output.frames for output in outputs) * teacher.spec.frame_shift
    labels = sum(len(output.tokens) for output in outputs)
    print(
        f"{room.name}, {name}: {len(outputs)} utterances, {seconds:.0f} s, "
        f"{1 / teacher.spec.frame_shift:g} frames and {labels / seconds:.1f} labels a second, "
        f"V = {teacher.spec.vocab_size}, WER {said(room, utterances):.1%}"
    )
    found = {band: collapse(outputs, rule) for band, rule in BANDS.items()}
    rows = []
    for band, of_band in found.items():
        rows += rows_of(f"band.{room.name}.{name}.{band}", of_band, found["whole"], seconds)
    return rows


def said(room: Path, utterances: Sequence[Utterance]) -> float:
    """Word error rate of the transducer, decoded greedily."""
    return score_student(load_student(room / STUDENT), utterances).wer.wer


def parse_args() -> argparse.Namespace:
    """How much; the defaults take a minute."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument(
        "--room", type=Path, nargs="*", default=ROOMS, help="where real_teacher.py made one"
    )
    parser.add_argument("--utterances", type=int, default=24, help="of each set")
    return parser.parse_args()


def main() -> None:
    """A table of each set and each teacher that is there."""
    args = parse_args()
    rooms = [room for room in args.room if (room / STUDENT).is_dir()]
    if not rooms:
        print("no teacher of real speech (make bench-teacher): nothing is measured")
        sys.exit(0)
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for room in rooms:
            for name, utterances in sets(room, args.utterances, Path(folder)):
                rows += report(room, name, utterances)
    publish(rows, args.json)


if __name__ == "__main__":
    main()
