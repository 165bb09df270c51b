"""A lattice's settings chosen for a goal: what they take beside a byte a class, and how long.

    python tests/benchmarks/bench_lattice_choice.py
    python tests/benchmarks/bench_lattice_choice.py --goals 1e-2 1e-3 1e-4 --utterances 16

Lattices are simulated: labels are due, and ramp, as ``peaky_lattices`` states, and all other
classes are noise of deviation 1.5 about 9.5 below blank. The peer is the smallest ``log8`` that
loses no more on the same utterances. It asserts nothing.

Shapes: T frames, U labels, V vocabulary.
"""

from __future__ import annotations

import platform
import time
from typing import TYPE_CHECKING

import numpy as np
import torch
from rows import Row, arguments, publish

from kdcache.extract.candidates import candidates
from kdcache.extract.choose import choose
from kdcache.extract.goals import Asked, parse_wanted
from kdcache.extract.measure import Sample, by_settings, measure
from kdcache.inspect.choices import choice_lines
from kdcache.teacher.protocol import LatticeLogits, TeacherOutput
from kdcache.types import TeacherKind, TeacherSpec

if TYPE_CHECKING:
    import argparse

    from torch import Tensor

    from kdcache.extract.choose import Chosen

FRAMES, SECONDS = 375, 15.0
CORPUS_HOURS = 1000.0


def simulate(vocabulary: int, seed: int) -> TeacherOutput:
    """An utterance of 15 s."""
    rng = np.random.default_rng(seed)
    due_U = np.cumsum(2 + rng.poisson(3.5, FRAMES))
    due_U = due_U[due_U < FRAMES - 3]
    tokens_U = rng.integers(1, vocabulary, len(due_U))
    noise_TU = rng.normal(size=(FRAMES, len(due_U))) * 2
    for frame in range(1, FRAMES):
        noise_TU[frame] = 0.85 * noise_TU[frame - 1] + np.sqrt(1 - 0.85**2) * noise_TU[frame]
    label_TU = (1.6 * (np.arange(FRAMES)[:, None] - due_U)).clip(-9, 7) + noise_TU
    others_TV = rng.normal(-9.5, 1.5, (FRAMES, vocabulary))
    others_TV[:, 0] = 0.0
    tables = (torch.from_numpy(a.astype(np.float32)) for a in (label_TU, others_TV))
    lattice = _lattice(*tables, torch.from_numpy(tokens_U))
    none_T1 = torch.zeros(FRAMES, 1)
    tokens = tuple(tokens_U.tolist())
    return TeacherOutput(FRAMES, tokens, none_T1, none_T1, lattice, utterance=str(seed))


def _lattice(label_TU: Tensor, others_TV: Tensor, tokens_U: Tensor) -> LatticeLogits:
    """Of which the two networks say where a node is, and the joint network what it holds."""
    labels = len(tokens_U)

    def joint(encoder: Tensor, decoder: Tensor) -> Tensor:
        at = torch.broadcast_tensors(encoder, decoder)
        frame, column = (index[..., 0].long() for index in at)
        logits = others_TV[frame].clone()
        # Beyond the last label only blank and noise are left: blank is said again there.
        last = column == labels
        place = column.clamp(max=labels - 1)
        token = tokens_U[place].masked_fill(last, 0)[..., None]
        return logits.scatter_(-1, token, label_TU[frame, place].masked_fill(last, 0.0)[..., None])

    frames_T1, columns_U1 = (torch.arange(float(n))[:, None] for n in (FRAMES, labels + 1))
    return LatticeLogits(frames_T1, columns_U1, joint, blank=0)


def chosen(asked: Asked, teacher: TeacherSpec, sample: Sample) -> tuple[Chosen, float]:
    """What is found, and seconds of a core."""
    search, start = choose(asked, teacher, sample, CORPUS_HOURS), time.process_time()
    while True:
        try:
            next(search)
        except StopIteration as end:
            return end.value, time.process_time() - start


def smallest_log8(asked: Asked, teacher: TeacherSpec, sample: Sample) -> float:
    """Bytes an hour of the smallest candidate of a byte a class within the goal, or NaN."""
    specs = [spec for spec in candidates(asked, teacher) if spec.codec["name"] == "log8"]
    found = [m for own in by_settings(specs) for m in measure(own, sample, asked, CORPUS_HOURS)]
    return min((m.bytes_per_hour for m in found if m.upper <= asked.max_kl), default=float("nan"))


def parse_args() -> argparse.Namespace:
    """What is measured; the defaults take half a minute."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--vocab", type=int, default=500)
    parser.add_argument("--utterances", type=int, default=8)
    parser.add_argument("--goals", type=float, nargs="+", default=[1e-3])
    return parser.parse_args()


def main() -> None:
    """Print tables; write rows where asked."""
    args = parse_args()
    torch.set_num_threads(1)
    print(f"{platform.machine()}, one core, {time.strftime('%Y-%m-%d')}, V = {args.vocab}")
    kind = TeacherKind.TRANSDUCER
    teacher = TeacherSpec("t", kind, args.vocab, 0, 16000, 0.04, 1, ("lattice",), "", "")
    outputs = tuple(simulate(args.vocab, seed) for seed in range(args.utterances))
    sample = Sample(outputs, (SECONDS,) * len(outputs))
    rows = []
    for goal in args.goals:
        (asked,) = parse_wanted(["lattice"], goal)
        assert isinstance(asked, Asked)
        found, seconds = chosen(asked, teacher, sample)
        print(f"\n{seconds:.0f} s of a core")
        print("\n".join(choice_lines(found.choice)))
        size = found.choice.picked.bytes_per_hour
        peer = smallest_log8(asked, teacher, sample.halves()[1])
        name = f"choice.lattice.bytes_at_{goal:.0e}"
        rows.append(Row(name, size / 3600, "B/s", "a byte a class", peer / size))
    publish(rows, args.json)


if __name__ == "__main__":
    main()
