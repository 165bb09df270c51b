"""Time the RNN-T loss, forward and backward, beside warprnnt-numba on the same input.

    python tests/benchmarks/bench_lattice.py                      small, seconds
    python tests/benchmarks/bench_lattice.py --frames 250 --labels 40 --vocab 512 --batch 8

It reports and asserts nothing. The two losses must agree for the ratio to mean anything, so
the largest difference of value and gradient is printed beside it.
"""

from __future__ import annotations

import argparse
import importlib.util
import platform
import time
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from kdcache.batch import LatticeBatch
from kdcache.lattice import class_log_probs, node_ids, rnnt_loss
from kdcache.loss import lattice_kl, transducer_kd_loss

BLANK = 0
Run = Callable[[Tensor], Tensor]


def measure(loss: Run, logits: Tensor, repeats: int) -> tuple[float, float, Tensor]:
    """Best seconds of ``repeats`` runs, the loss and its gradient."""
    best = float("inf")
    for _ in range(repeats):
        leaf = logits.detach().requires_grad_()
        start = time.perf_counter()
        value = loss(leaf)
        value.backward()
        best = min(best, time.perf_counter() - start)
    assert leaf.grad is not None
    return best, float(value.detach()), leaf.grad


def warp_loss(labels: Tensor, frames: Tensor, lengths: Tensor) -> Run | None:
    """warprnnt-numba on the same input, compiled beforehand, or ``None`` if not installed."""
    if importlib.util.find_spec("warprnnt_numba") is None:
        return None
    warnings.filterwarnings("ignore")
    from warprnnt_numba import RNNTLossNumba

    module = RNNTLossNumba(blank=BLANK, reduction="sum")
    small = torch.zeros(1, 2, 2, 4, requires_grad=True)
    one = torch.ones(1, dtype=torch.int32)
    module(small, torch.ones(1, 1, dtype=torch.int32), 2 * one, one).backward()
    return lambda logits: module(logits, labels.int(), frames.int(), lengths.int()).squeeze()


def peaked_target(logits: Tensor, labels: Tensor, frames: Tensor, lengths: Tensor) -> LatticeBatch:
    """A teacher that is the student with other numbers."""
    ids = node_ids(labels, BLANK, logits.shape, lengths)
    with torch.no_grad():
        logp = class_log_probs(logits.roll(1, 1), ids, frames, lengths)
    return LatticeBatch(logp, ids[..., 2:], frames, lengths)


def parse_args() -> argparse.Namespace:
    """Sizes; the defaults take seconds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in {"batch": 2, "frames": 60, "labels": 15, "vocab": 128}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-warp", action="store_true", help="leave warprnnt-numba out")
    return parser.parse_args()


def main() -> None:
    """Print one line a loss."""
    args = parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    logits = torch.randn(args.batch, args.frames, args.labels + 1, args.vocab)
    labels = torch.randint(1, args.vocab, (args.batch, args.labels))
    frames = torch.full((args.batch,), args.frames)
    lengths = torch.full((args.batch,), args.labels)
    target = peaked_target(logits, labels, frames, lengths)
    print(
        f"B{args.batch} T{args.frames} U{args.labels} V{args.vocab} float32, forward + backward, "
        f"best of {args.repeats}; {platform.machine()}, {args.threads} threads, "
        f"torch {torch.__version__}, {time.strftime('%Y-%m-%d')}"
    )
    own = measure(
        lambda z: rnnt_loss(z, labels, frames, lengths, BLANK, "sum"), logits, args.repeats
    )
    kl = measure(lambda z: lattice_kl(z, target, labels, BLANK, "sum"), logits, args.repeats)
    kd = measure(
        lambda z: transducer_kd_loss(z, target, labels, BLANK, 0.02, "sum").total,
        logits,
        args.repeats,
    )
    print(f"rnnt_loss           {own[0]:9.3f} s")
    print(f"lattice_kl          {kl[0]:9.3f} s")
    print(f"transducer_kd_loss  {kd[0]:9.3f} s   (both, one pass)")
    warp = None if args.no_warp else warp_loss(labels, frames, lengths)
    if warp is None:
        print("warprnnt-numba      not run")
        return
    other = measure(warp, logits, 1)
    print(
        f"warprnnt-numba      {other[0]:9.3f} s   {other[0] / own[0]:.1f} × rnnt_loss; "
        f"values differ by {abs(own[1] - other[1]) / abs(other[1]):.1e} relative, "
        f"gradients by {float((own[2] - other[2]).abs().max()):.1e}"
    )


if __name__ == "__main__":
    main()
