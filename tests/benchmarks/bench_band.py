"""Time and memory of a band beside the whole lattice: finding it, keeping it, learning from it.

    python tests/benchmarks/bench_band.py                          seconds, small
    python tests/benchmarks/bench_band.py --batch 8 --frames 250 --labels 40 --vocab 512

It reports and asserts nothing; figures are of one thread unless told otherwise. The teacher is
random, with alignments as narrow as a trained one's along a line from the first node to the last.
"""

from __future__ import annotations

import argparse
import platform
import time
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from kdcache.batch import Batch, LatticeBatch
from kdcache.codec import make_codec
from kdcache.lattice import BandRule, forward_backward, node_log_probs, node_occupancy
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
    """Sizes; the defaults take seconds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sizes = {"batch": 2, "frames": 125, "labels": 20, "vocab": 128, "joint": 320, "width": 5}
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


def time_search(args: argparse.Namespace, logits: Tensor, labels: Tensor) -> None:
    """Finding bands: forward-backward, one width, the narrowest that keeps 99.9 %."""
    lengths = torch.tensor([args.frames]), torch.tensor([args.labels])
    arcs = node_log_probs(logits[:1], labels[:1], BLANK)
    occupancy = node_occupancy(forward_backward(*arcs, *lengths))[0].numpy()
    band = BandRule(1e-3).choose(occupancy)
    seconds = {
        "forward-backward": best_of(args.repeats, lambda: forward_backward(*arcs, *lengths)),
        f"best band, S = {args.width}": best_of(
            args.repeats, lambda: best_band(occupancy, args.width)
        ),
        f"narrowest for 0.001 (S = {band.width})": best_of(
            args.repeats, lambda: BandRule(1e-3).choose(occupancy)
        ),
    }
    for name, value in seconds.items():
        rate = args.frames * FRAME_SECONDS / value
        print(f"{name:32}{1e3 * value:9.2f} ms an utterance {rate:12,.0f} × real time")


def time_target(args: argparse.Namespace) -> None:
    """The whole reduction of an utterance, joint network included."""
    head = torch.randn(args.joint, args.vocab)
    lattice = LatticeLogits(
        torch.randn(args.frames, args.joint),
        torch.randn(args.labels + 1, args.joint),
        lambda encoder, decoder: torch.tanh(encoder + decoder) @ head,
        BLANK,
    )
    tokens = tuple(1 + n % (args.vocab - 1) for n in range(args.labels))
    output = TeacherOutput(args.frames, tokens, torch.zeros(args.frames, 1), lattice=lattice)
    codec = make_codec("lattice", {"name": "log8"})
    for name, target in (
        ("target, whole", LatticeTarget()),
        (f"target, S = {args.width}", LatticeTarget(width=args.width)),
    ):
        seconds = best_of(args.repeats, lambda target=target: target.reduce(output, codec))
        size = sum(array.nbytes for array in target.reduce(output, codec).columns.values())
        rate = size / (args.frames * FRAME_SECONDS)
        peak = peak_megabytes(lambda target=target: target.reduce(output, codec))
        print(
            f"{name:32}{1e3 * seconds:9.2f} ms an utterance {rate:12,.0f} bytes a second, "
            f"peak {peak:.1f} MB of tensors"
        )
    whole = args.batch * args.frames * (args.labels + 1) * args.vocab * 4 / 1e6
    print(f"{'lattices of a batch, float32':32}{whole:9.1f} MB")


def time_step(args: argparse.Namespace, targets: dict[str, LatticeBatch], labels: Tensor) -> None:
    """Joint network and losses of one step, forward and backward."""
    head = torch.nn.Linear(args.joint, args.vocab)
    lengths = torch.full((args.batch,), args.labels)
    names = ("",) * args.batch

    def step(target: LatticeBatch, loss: LossSettings) -> None:
        output = StudentOutput(
            torch.randn(args.batch, args.frames, args.joint, requires_grad=True),
            torch.randn(args.batch, args.labels + 1, args.joint, requires_grad=True),
            lambda decoder, encoder: head(torch.tanh(decoder + encoder)),
            target.frames_B,
            torch.zeros(args.batch, args.frames, 1),
            None,
        )
        batch = Batch(names, names, labels, lengths, None, None, {"lattice": target})
        weighted_sum(loss_terms(output, batch, BLANK, loss), loss).backward()

    both, inside = LossSettings(lattice_kl=0.02), LossSettings(lattice_kl=0.02, rnnt_in_band=True)
    runs = {
        "step, KL and RNN-T in the band": (targets["band"], inside),
        "step, KL in the band": (targets["band"], both),
        "step, whole lattice": (targets["whole"], both),
    }
    for name, (target, loss) in runs.items():
        seconds = best_of(args.repeats, lambda t=target, w=loss: step(t, w))
        peak = peak_megabytes(lambda t=target, w=loss: step(t, w))
        print(f"{name:32}{1e3 * seconds:9.0f} ms a batch     peak {peak:8,.1f} MB of tensors")


def main() -> None:
    """Print one line a measurement."""
    args = parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    labels = torch.randint(1, args.vocab, (args.batch, args.labels))
    sizes = f"B{args.batch} T{args.frames} U{args.labels} V{args.vocab} J{args.joint}"
    print(
        f"{sizes} S{args.width} float32, best of {args.repeats}; {platform.machine()}, "
        f"{args.threads} threads, torch {torch.__version__}, {time.strftime('%Y-%m-%d')}"
    )
    frames = torch.full((args.batch,), args.frames)
    lengths = torch.full((args.batch,), args.labels)
    logits = peaked_logits(args, labels)
    rules = {"whole": BandRule(), "band": BandRule(width=args.width)}
    targets = {
        name: collapse_lattice(logits, labels, frames, lengths, BLANK, 0, rule)
        for name, rule in rules.items()
    }
    time_search(args, logits, labels)
    del logits
    time_target(args)
    time_step(args, targets, labels)


if __name__ == "__main__":
    main()
