"""Bytes of a really trained transducer's lattices as a band, and what is lost of them.

    python tests/benchmarks/bench_real_band.py                       after `make bench-teacher`

The lattices are of speakers that the teacher never heard and of its training set, collapsed to
blank, label and rest, by every lattice codec but ``fp16`` at its default settings. Lost: the mean
divergence of a node's three classes from what is decoded, and the share of the occupancy beyond
the band. Bytes are the payload's, without containers. It asserts nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from real_posteriors import ROOM, SETS, STUDENT, ask, pick
from rows import Row, arguments, publish

from kdcache.codec import codec_names, make_codec
from kdcache.target.lattice import LatticeTarget
from kdcache.teacher import load_teacher

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from kdcache.teacher import TeacherOutput

BANDS = {
    "whole": LatticeTarget(),
    "epsilon0.001": LatticeTarget(epsilon=1e-3),
    "epsilon0.01": LatticeTarget(epsilon=1e-2),
    "width5": LatticeTarget(width=5),
}
GOAL = 400.0


def row_of(
    name: str,
    target: LatticeTarget,
    codec_name: str,
    outputs: Sequence[TeacherOutput],
    shift: float,
) -> Row:
    """Bytes a second of some outputs; what is lost is printed beside it."""
    codec = make_codec("lattice", {"name": codec_name})
    reduced = [target.reduce(output, codec) for output in outputs]
    size = sum(array.nbytes for one in reduced for array in one.columns.values())
    seconds = sum(output.frames for output in outputs) * shift
    nodes = [codec.decode(one.columns).logp_TSC[..., 0].size for one in reduced]
    kl, outside = (
        float(np.average([one.fidelity.get(key, 0.0) for one in reduced], weights=nodes))
        for key in ("kl_mean", "band_outside")
    )
    print(
        f"  {name:12} {codec_name:6} {size / seconds:9.1f} B/s, KL {kl:.1e} nats a node, "
        f"{outside:.1e} of the occupancy outside"
    )
    size /= seconds
    return Row(f"band.real.{name}.{codec_name}", size, "B/s", "the goal of 400 B/s", GOAL / size)


def parse_args() -> argparse.Namespace:
    """How much; the defaults take a minute."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--room", type=Path, default=ROOM, help="where real_teacher.py made it")
    parser.add_argument("--utterances", type=int, default=24, help="of each set")
    return parser.parse_args()


def main() -> None:
    """A table of either set; rows of the speech that was not heard, and of that which was."""
    args = parse_args()
    if not (args.room / STUDENT).is_dir():
        print(f"no teacher in {args.room} (make bench-teacher): nothing is measured")
        sys.exit(0)
    torch.set_num_threads(1)
    teacher = load_teacher(args.room / STUDENT)
    rows = []
    for set_name, splits in SETS.items():
        outputs = [output for _, output in ask(teacher, pick(args.room, splits, args.utterances))]
        print(f"{set_name}: {len(outputs)} utterances, {1 / teacher.spec.frame_shift:g} frames/s")
        for name, target in BANDS.items():
            for codec in sorted(set(codec_names("lattice")) - {"fp16"}):
                label = f"{set_name}.{name}"
                rows.append(row_of(label, target, codec, outputs, teacher.spec.frame_shift))
    publish(rows, args.json)


if __name__ == "__main__":
    main()
