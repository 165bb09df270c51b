"""Settings chosen for a goal: what they take, what they lose where nobody listened, and how long.

    python tests/benchmarks/bench_choice.py
    python tests/benchmarks/bench_choice.py --goals 1e-2 1e-3 1e-4 --utterances 32 --json rows.json

On simulated posteriors of encoder frames (``peaky_posteriors``). The choice is made on a sample of
15-second utterances; bytes and loss are then taken of others, and set beside the smallest setting
of ours that a search over these others themselves finds (``rate_distortion``). It asserts nothing.
"""

from __future__ import annotations

import platform
import time
from typing import TYPE_CHECKING

import torch
from peaky_posteriors import simulate
from rate_distortion import OURS, cheapest, measure_ours, our_settings, output_of
from rows import Row, arguments, publish

from kdcache.extract.choose import choose
from kdcache.extract.goals import Asked, parse_wanted
from kdcache.extract.measure import Sample, measure
from kdcache.inspect.choices import choice_lines
from kdcache.types import TeacherKind, TeacherSpec

if TYPE_CHECKING:
    import argparse

    import numpy as np

    from kdcache.extract.choose import Chosen

SECONDS = 15.0
CORPUS_HOURS = 1000.0


def heard(logp: list[np.ndarray]) -> Sample:
    """As a teacher would say it."""
    return Sample(tuple(map(output_of, logp)), (SECONDS,) * len(logp))


def chosen(asked: Asked, vocabulary: int, sample: Sample) -> tuple[Chosen, float]:
    """What is found, and seconds of a core."""
    kinds = ("encoder_logits",)
    teacher = TeacherSpec("t", TeacherKind.CTC, vocabulary, 0, 16000, 0.04, 1, kinds, "", "")
    search, start = choose(asked, teacher, sample, CORPUS_HOURS), time.process_time()
    while True:
        try:
            next(search)
        except StopIteration as end:
            return end.value, time.process_time() - start


def parse_args() -> argparse.Namespace:
    """What is measured; the defaults take a minute or two."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--vocab", type=int, default=500)
    parser.add_argument("--utterances", type=int, default=16, help="of the sample")
    parser.add_argument("--others", type=int, default=16, help="utterances nobody listened to")
    parser.add_argument("--goals", type=float, nargs="+", default=[1e-3])
    return parser.parse_args()


def main() -> None:
    """Print tables; write rows where asked."""
    args = parse_args()
    torch.set_num_threads(1)
    print(f"{platform.machine()}, one core, {time.strftime('%Y-%m-%d')}, V = {args.vocab}")
    first = simulate(args.vocab, args.utterances, seed=1)
    others = simulate(args.vocab, args.others, seed=2)
    points = [measure_ours(settings, first, others) for settings in our_settings()]
    rows = []
    for goal in args.goals:
        (asked,) = parse_wanted(["encoder_logits"], goal)
        assert isinstance(asked, Asked)
        found, seconds = chosen(asked, args.vocab, heard(first))
        (there,) = measure([found.spec], heard(others), asked, CORPUS_HOURS)
        best = cheapest(points, goal, ours=True)
        assert best is not None
        size = there.bytes_per_hour / 3600 / 25
        print(f"\n{OURS}: {seconds:.0f} s of a core; on others {there.mean:.3g} nats a frame")
        print("\n".join(choice_lines(found.choice)))
        print(f"best on the others themselves: {best.size:.4g} B/frame, {best.name}")
        ratio = best.size / size
        rows.append(Row(f"choice.bytes_at_{goal:.0e}", size, "B/frame", "by hindsight", ratio))
        rows.append(Row(f"choice.kl_at_{goal:.0e}", there.mean, "nats", "goal", there.mean / goal))
    publish(rows, args.json)


if __name__ == "__main__":
    main()
