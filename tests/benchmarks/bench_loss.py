"""A step's joint network and losses: in the band and over the whole lattice, in blocks and held.

    python tests/benchmarks/bench_loss.py                          about a minute
    python tests/benchmarks/bench_loss.py --frames 125 --labels 20 --vocab 128

It asserts nothing; figures are of one thread unless told otherwise. A contender is forward and
backward from what encoder and prediction network give to the RNN-T loss and the lattice KL, as
``kdcache train`` does it; "held" is with all logits multiplied out, as other losses need them.
torchaudio's RNN-T loss, without a KL, is beside them where it imports. Memory is the most bytes of
tensors at once, as torch's allocator tells.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from typing import TYPE_CHECKING

import torch
from bench_band import BLANK, peak_megabytes
from rows import Row, arguments, publish

from kdcache.batch import LatticeBatch
from kdcache.lattice import FactoredLogits, node_ids
from kdcache.loss import transducer_kd_loss

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    Loss = Callable[[FactoredLogits], Tensor]

BETA = 0.02


def parse_args() -> argparse.Namespace:
    """Sizes; the defaults are a common model's."""
    parser = arguments(__doc__)
    sizes = {"batch": 8, "frames": 375, "labels": 75, "vocab": 1024, "joint": 640, "width": 5}
    for name, value in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--repeats", type=int, default=3, help="of what is quick")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def target_of(args: argparse.Namespace, width: int) -> LatticeBatch:
    """A teacher that is unsure everywhere, in a band along the line of equal pace."""
    frames, labels = (torch.full((args.batch,), n) for n in (args.frames, args.labels))
    nodes = (args.batch, args.frames, width)
    t_T = torch.arange(args.frames)
    starts_T = t_T * (args.labels + 1 - width) // max(args.frames - 1, 1)
    logp = torch.randn(*nodes, 3).log_softmax(-1)
    ids = torch.zeros(*nodes, 0, dtype=torch.int64)
    starts = None if width > args.labels else starts_T.expand(args.batch, -1).contiguous()
    if starts is None:  # column U has no label
        logp[:, :, -1, 1] = -torch.inf
    return LatticeBatch(logp, ids, frames, labels, starts)
