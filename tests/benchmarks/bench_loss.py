"""A step's joint network and losses: in the band and over the whole lattice, in blocks and held.

    python tests/benchmarks/bench_loss.py                          about a minute
    python tests/benchmarks/bench_loss.py --frames 125 --labels 20 --vocab 128

It asserts nothing. Seconds are those that the one thread has computed, so that what else the
machine does matters little; memory is the most bytes of tensors at once, as torch's allocator
tells. A contender is forward and
backward from what encoder and prediction network give to the RNN-T loss and the lattice KL, as
``kdcache train`` does it; "held" has all logits multiplied out, as losses elsewhere need them.
torchaudio's RNN-T loss, without a KL, is beside them where it imports.
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
from kdcache.lattice import FactoredLogits
from kdcache.lattice.banded import band_columns
from kdcache.loss import transducer_kd_loss

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    Loss = Callable[[FactoredLogits], Tensor]

BETA = 0.02
HELD = "whole lattice, held"


def parse_args() -> argparse.Namespace:
    """Sizes; the defaults are a common model's."""
    parser = arguments(__doc__)
    sizes = {"batch": 8, "frames": 375, "labels": 75, "vocab": 1024, "joint": 640, "width": 5}
    for name, value in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--repeats", type=int, default=3, help="of what is quick")
    return parser.parse_args()


def band_target(args: argparse.Namespace, width: int) -> LatticeBatch:
    """A teacher that is unsure everywhere, in a band along the line of equal pace."""
    frames, labels = (torch.full((args.batch,), n) for n in (args.frames, args.labels))
    starts_T = torch.arange(args.frames) * (args.labels + 1 - width) // max(args.frames - 1, 1)
    starts_BT = starts_T.expand(args.batch, -1).contiguous()
    logits = torch.randn(args.batch, args.frames, width, 3, generator=seeded())
    is_last = band_columns(starts_BT, width, args.labels + 1) == args.labels
    logits[..., 1].masked_fill_(is_last, -torch.inf)
    ids = torch.zeros(*logits.shape[:3], 0, dtype=torch.int64)
    return LatticeBatch(logits.log_softmax(-1), ids, frames, labels, starts_BT)


def seeded() -> torch.Generator:
    """Every contender gets the same numbers."""
    return torch.Generator().manual_seed(1)


def contenders(args: argparse.Namespace, width: int) -> dict[str, Loss]:
    """By name, a loss of the factors."""
    labels = labels_of(args)
    band, all_columns = band_target(args, width), band_target(args, args.labels + 1)
    whole = LatticeBatch(all_columns.logp_BTSC, all_columns.ids_BTSK, band.frames_B, band.labels_B)
    assert band.starts_BT is not None
    columns_BTS = band_columns(band.starts_BT, width, args.labels + 1)

    def both(logits: FactoredLogits | Tensor, target: LatticeBatch) -> Tensor:
        nodes = "lattice" if target.starts_BT is None else "band"
        return transducer_kd_loss(logits, target, labels, BLANK, BETA, "sum", nodes=nodes).total

    return {
        "band": lambda factors: both(factors, band),
        "band, held": lambda factors: both(factors.logits_at(columns_BTS), band),
        "whole lattice": lambda factors: both(factors, whole),
        HELD: lambda factors: both(factors.lattice_logits(), whole),
    }


def labels_of(args: argparse.Namespace) -> Tensor:
    """Any labels; blank is class 0."""
    return torch.randint(1, args.vocab, (args.batch, args.labels), generator=seeded())


def torchaudio_loss(args: argparse.Namespace) -> dict[str, Loss]:
    """Its RNN-T loss on all logits, or nothing where there is no torchaudio that runs here."""
    try:
        from torchaudio.functional import rnnt_loss
    except (ImportError, OSError) as error:
        print(f"torchaudio's rnnt_loss does not import here: {error}")
        return {}
    sizes = (args.frames, args.labels)
    frames, lengths = (torch.full((args.batch,), n, dtype=torch.int32) for n in sizes)
    given = (labels_of(args).int(), frames, lengths)

    def loss(factors: FactoredLogits) -> Tensor:
        logits = factors.lattice_logits()
        value: Tensor = rnnt_loss(logits, *given, blank=BLANK, reduction="sum")
        return value

    return {"torchaudio": loss}


def step(args: argparse.Namespace, loss: Loss) -> list[Tensor]:
    """What a step does after encoder and prediction network: the loss and its gradients."""
    torch.manual_seed(0)
    encoder, decoder = (
        torch.randn(args.batch, n, args.joint).requires_grad_()
        for n in (args.frames, args.labels + 1)
    )
    head = torch.nn.Linear(args.joint, args.vocab)
    value = loss(FactoredLogits(encoder, decoder, lambda d, e: head(torch.tanh(d + e))))
    leaves = (encoder, decoder, head.weight)
    return [value.detach(), *torch.autograd.grad(value, leaves)]


def measure(args: argparse.Namespace) -> list[Row]:
    """The band beside each other contender, and the whole lattice in blocks beside held."""
    found = {}
    for name, loss in {**contenders(args, args.width), **torchaudio_loss(args)}.items():
        repeats = args.repeats if name.startswith("band") else 1
        found[name] = cost(partial(step, args, loss), repeats)
    peers = [name for name in found if name != "band"]
    rows = [row for peer in peers for row in beside("loss.band", "band", peer, found)]
    return rows + beside("loss.lattice", "whole lattice", HELD, found)


def cost(run: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Least seconds of several runs, and peak megabytes."""
    seconds: list[float] = []

    def timed() -> None:
        began = time.thread_time()
        run()
        seconds.append(time.thread_time() - began)

    peaks = [peak_megabytes(timed) for _ in range(repeats)]
    return min(seconds), max(peaks)


def beside(label: str, name: str, peer: str, found: dict[str, tuple[float, float]]) -> list[Row]:
    """A row of time and one of memory."""
    units = {"time": "s", "memory": "MB"}
    parts = zip(units.items(), found[name], found[peer], strict=True)
    return [
        Row(f"{label}_{what}", mine, unit, peer, other / mine)
        for (what, unit), mine, other in parts
    ]


def difference(args: argparse.Namespace) -> Row:
    """The band of all columns beside the whole lattice held: value and gradients, float32."""
    args = argparse.Namespace(**{**vars(args), "batch": 1})
    losses = contenders(args, args.labels + 1)
    pairs = zip(*(step(args, losses[name]) for name in ("band", HELD)), strict=True)
    most = max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)
    return Row("loss.band_of_all_columns", most, "relative difference", HELD)


def main() -> None:
    """Measure and publish."""
    args = parse_args()
    torch.set_num_threads(1)
    sizes = f"B{args.batch} T{args.frames} U{args.labels} V{args.vocab} J{args.joint}"
    print(f"{sizes} S{args.width} float32, 1 thread, torch {torch.__version__}")
    publish([*measure(args), difference(args)], args.json)


if __name__ == "__main__":
    main()
