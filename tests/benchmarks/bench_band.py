"""Time and memory of a band beside the whole lattice: finding it, keeping it, learning from it.

    python tests/benchmarks/bench_band.py                          about a minute
    python tests/benchmarks/bench_band.py --frames 125 --labels 20 --vocab 128

It asserts nothing; figures are of one thread unless told otherwise. The teacher is random, with
alignments as narrow as a trained one's along a line from the first node to the last. Memory is
the most bytes of tensors at once, as torch's allocator tells. All logits are multiplied out.
"""

from __future__ import annotations

import argparse
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from rows import Row, arguments, publish
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from kdcache.batch import Batch, LatticeBatch
from kdcache.codec import make_codec
from kdcache.lattice import (
    BandRule,
    factored,
    forward_backward,
    node_log_probs,
    node_occupancy,
)
from kdcache.lattice.band import best_band
from kdcache.loss import collapse_lattice
from kdcache.student import StudentOutput
from kdcache.target.lattice import LatticeTarget
from kdcache.teacher.protocol import LatticeLogits, TeacherOutput
from kdcache.train.objective import loss_terms, weighted_sum
from kdcache.train.settings import LossSettings

if TYPE_CHECKING:
    from collections.abc import Callable

BLANK = 0
FRAME_SECONDS = 0.04
SHARPNESS = 6.0
LARGE = {"batch": 8, "frames": 375, "labels": 75, "vocab": 1024, "joint": 640}


def best_of(repeats: int, run: Callable[[], Any]) -> float:
    """Least seconds of several runs."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def peak_megabytes(run: Callable[[], Any]) -> float:
    """Most bytes of tensors that a run has at once, beyond those before it."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        run()
    events = [e for e in watched.profiler.kineto_results.events() if e.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak / 1e6


def parse_args() -> argparse.Namespace:
    """Sizes; the defaults take a minute."""
    parser = arguments(__doc__)
    sizes = {"batch": 8, "frames": 250, "labels": 40, "vocab": 512, "joint": 320, "width": 5}
    for name, value in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def peaked_logits(args: argparse.Namespace, labels_BU: Tensor) -> Tensor:
    """A teacher's logits (B, T, U+1, V): the label while it is due, blank when it is spoken."""
    columns = args.labels + 1
    logits = torch.randn(args.batch, args.frames, columns, args.vocab)
    due_T1 = (torch.arange(args.frames) * columns // args.frames)[:, None]
    emits_TU = torch.where(torch.arange(columns) < due_T1, SHARPNESS, 0.0)
    for row in range(args.batch):
        for u, label in enumerate(labels_BU[row].tolist()):
            logits[row, :, u, label] += emits_TU[:, u]
    logits[..., BLANK] += SHARPNESS - emits_TU
    return logits


def search_rows(args: argparse.Namespace, logits: Tensor, labels: Tensor) -> list[Row]:
    """Finding bands, once occupancies are known: one width, and the narrowest for 99.9 %."""
    lengths = torch.tensor([args.frames]), torch.tensor([args.labels])
    arcs = node_log_probs(logits[:1], labels[:1], BLANK)
    occupancy = node_occupancy(forward_backward(*arcs, *lengths))[0].numpy()
    runs = {
        "band.occupancy": lambda: node_occupancy(forward_backward(*arcs, *lengths)),
        f"band.search.width{args.width}": lambda: best_band(occupancy, args.width),
        "band.search.epsilon0.001": lambda: BandRule(1e-3).choose(occupancy),
    }
    seconds = args.frames * FRAME_SECONDS
    return [
        Row(name, seconds / best_of(args.repeats, run), "× real time per core")
        for name, run in runs.items()
    ]


def target_rows(args: argparse.Namespace) -> list[Row]:
    """The whole reduction of an utterance, joint network included; memory beside a batch's."""
    head = torch.randn(args.joint, args.vocab)
    lattice = LatticeLogits(
        torch.randn(args.frames, args.joint),
        torch.randn(args.labels + 1, args.joint),
        lambda encoder, decoder: torch.tanh(encoder + decoder) @ head,
        BLANK,
    )
    tokens = tuple(1 + n % (args.vocab - 1) for n in range(args.labels))
    output = TeacherOutput(args.frames, tokens, torch.zeros(args.frames, 1), lattice=lattice)
    whole, band = (reduction_of(target, output, args) for target in (
        LatticeTarget(), LatticeTarget(width=args.width)
    ))  # fmt: skip
    lattices = args.batch * args.frames * (args.labels + 1) * args.vocab * 4 / 1e6
    peer = "whole lattice"
    return [
        Row("band.target.seconds", band[0], "s", peer, whole[0] / band[0]),
        Row("band.bytes", band[1], "bytes per second of audio", peer, whole[1] / band[1]),
        Row("target.memory", whole[2], "MB", "the batch's lattices", lattices / whole[2]),
        Row("target.memory.band", band[2], "MB", "the batch's lattices", lattices / band[2]),
    ]


def reduction_of(
    target: LatticeTarget, output: TeacherOutput, args: argparse.Namespace
) -> tuple[float, float, float]:
    """Seconds, bytes per second of audio, peak megabytes."""
    codec = make_codec("lattice", {"name": "log8"})
    columns = target.reduce(output, codec).columns
    size = sum(array.nbytes for array in columns.values()) / (args.frames * FRAME_SECONDS)
    seconds = best_of(args.repeats, lambda: target.reduce(output, codec))
    return seconds, size, peak_megabytes(lambda: target.reduce(output, codec))


def step_rows(args: argparse.Namespace, logits: Tensor, labels: Tensor) -> list[Row]:
    """Joint network and losses of one step, forward and backward: in the band, and whole."""
    lengths = torch.full((args.batch,), args.frames), torch.full((args.batch,), args.labels)
    whole, band = (
        collapse_lattice(logits, labels, *lengths, BLANK, 0, rule)
        for rule in (BandRule(), BandRule(width=args.width))
    )
    both, inside = LossSettings(lattice_kl=0.02), LossSettings(lattice_kl=0.02, rnnt_in_band=True)
    head = torch.nn.Linear(args.joint, args.vocab)
    found = {}
    for name, target, loss in (("whole", whole, both), ("kl", band, both), ("all", band, inside)):
        run = partial(step, args, head, labels, target, loss)
        found[name] = best_of(args.repeats, run), peak_megabytes(run)
    slow, large = found["whole"]
    rows = []
    for name, label in (("all", "band.step"), ("kl", "band.step.rnnt_whole")):
        seconds, peak = found[name]
        rows.append(Row(f"{label}.seconds", seconds, "s", "whole lattices", slow / seconds))
        rows.append(Row(f"{label}.memory", peak, "MB", "whole lattices", large / peak))
    return rows


def step(
    args: argparse.Namespace,
    head: torch.nn.Linear,
    labels: Tensor,
    target: LatticeBatch,
    loss: LossSettings,
) -> None:
    """What a step does after encoder and prediction network."""
    output = StudentOutput(
        torch.randn(args.batch, args.frames, args.joint, requires_grad=True),
        torch.randn(args.batch, args.labels + 1, args.joint, requires_grad=True),
        lambda decoder, encoder: head(torch.tanh(decoder + encoder)),
        target.frames_B,
        torch.zeros(args.batch, args.frames, 1),
        None,
    )
    names = ("",) * args.batch
    batch = Batch(names, names, labels, target.labels_B, None, None, {"lattice": target})
    weighted_sum(loss_terms(output, batch, BLANK, loss), loss).backward()


def main() -> None:
    """Measure and publish."""
    args = parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    # What a band saves by itself; bench_loss.py has what blocks save.
    factored.HELD_ELEMENTS["cpu"] = sys.maxsize
    sizes = f"B{args.batch} T{args.frames} U{args.labels} V{args.vocab} J{args.joint}"
    print(f"{sizes} S{args.width} float32, {args.threads} threads, torch {torch.__version__}")
    labels = torch.randint(1, args.vocab, (args.batch, args.labels))
    logits = peaked_logits(args, labels)
    rows = search_rows(args, logits, labels) + step_rows(args, logits, labels)
    del logits
    # A lattice that would be a gigabyte a batch, whatever the sizes of the step.
    large = argparse.Namespace(**{**vars(args), **LARGE})
    publish(rows + target_rows(large), args.json)


if __name__ == "__main__":
    main()
