"""Targets of whole utterances and codebooks: speed, memory, and what codebooks leave.

    python tests/benchmarks/bench_targets.py             about a minute
    python tests/benchmarks/bench_targets.py --width 256 --codebooks 4 8

It asserts nothing; figures are of one thread. Hidden states are simulated: 40 directions of falling
strength, bent by a tanh, and noise (deviation 0.3) on every channel; the entries of codebooks are
trained on other frames than those that are measured. CTC posteriors are simulated as
``peaky_posteriors.py`` says, the transducer is random. Memory is the most bytes of tensors at once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from bench_band import best_of, peak_megabytes
from peaky_posteriors import simulate
from rows import Row, arguments, publish

from kdcache.codec import VectorRecord, make_codec
from kdcache.target.codebooks import train_codebooks
from kdcache.target.ctc_beam import ctc_beam_search
from kdcache.target.likelihood import ctc_likelihoods, lattice_likelihood
from kdcache.target.prefixes import sequence_likelihoods
from kdcache.target.transducer_beam import transducer_beam_search
from kdcache.teacher.protocol import LatticeLogits

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

FRAME_SECONDS = 0.04
FRAMES = 375
LARGE = {"frames": FRAMES, "labels": 75, "vocab": 1024, "joint": 640}
BEAM = 8


class Embeddings:
    """A prediction network that knows the last label alone."""

    def __init__(self, table_VJ: torch.Tensor) -> None:
        self._table_VJ = table_VJ

    def start(self) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """Before any label."""
        return self._table_VJ[:1], ()

    def step(
        self, labels_N: torch.Tensor, state: tuple[torch.Tensor, ...]
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """After one more label."""
        return self._table_VJ[labels_N], state


def hidden_states(rng: np.random.Generator, frames: int, width: int) -> np.ndarray:
    """float32 (frames, width)."""
    basis = np.random.default_rng(1).normal(size=(40, width))
    drawn = np.tanh(rng.normal(size=(frames, 40)) * np.linspace(3, 0.3, 40))
    return (drawn @ basis + 0.3 * rng.normal(size=(frames, width))).astype(np.float32)


def codebook_rows(args: argparse.Namespace) -> list[Row]:
    """What is left beside the variance, and how fast; bytes beside int8."""
    rng = np.random.default_rng(0)
    seen, unseen = (hidden_states(rng, n, args.width) for n in (args.train, FRAMES))
    rows = []
    for count in args.codebooks:
        table = train_codebooks(seen, count).to_dict()
        codec = make_codec("vector", {"name": "codebooks", "count": count, "table": table})
        columns = codec.encode(VectorRecord(unseen))
        decoded = codec.decode(columns)
        assert isinstance(decoded, VectorRecord)
        left = np.square(unseen - decoded.values_TD).sum() / np.square(unseen - seen.mean(0)).sum()
        name, seconds = f"codebooks.{count}", FRAMES * FRAME_SECONDS
        packing = best_of(args.repeats, lambda c=codec: c.encode(VectorRecord(unseen)))
        reading = best_of(args.repeats, lambda c=codec, p=columns: c.decode(p))
        rows += [
            Row(f"{name}.left", float(left), "of the variance"),
            Row(f"{name}.bytes", count, "bytes per frame", "int8", args.width / count),
            Row(f"{name}.encode", seconds / packing, "× real time per core"),
            Row(f"{name}.decode", seconds / reading, "× real time per core"),
        ]
    return rows


def ctc_rows(args: argparse.Namespace) -> list[Row]:
    """An n-best list and a transcript's probability from CTC posteriors."""
    logp_TV = torch.from_numpy(simulate(500, 1, seed=0)[0])
    seconds = len(logp_TV) * FRAME_SECONDS
    found = ctc_beam_search(logp_TV, 0, BEAM)
    searching = best_of(args.repeats, lambda: ctc_beam_search(logp_TV, 0, BEAM))
    scoring = best_of(args.repeats, lambda: ctc_likelihoods(logp_TV, found[:1], 0))
    return [
        Row("hypotheses.ctc.search", seconds / searching, "× real time per core"),
        Row("full_sum.ctc", seconds / scoring, "× real time per core"),
    ]


def transducer_rows(args: argparse.Namespace) -> list[Row]:
    """The same from a transducer, of which one lattice would be 117 MB."""
    head = torch.randn(LARGE["joint"], LARGE["vocab"])
    bias = torch.zeros(LARGE["vocab"])
    bias[0] = 60.0  # of random weights: a label in some frames, blank in most
    table = torch.randn(LARGE["vocab"], LARGE["joint"])
    tokens = tuple(1 + n for n in range(LARGE["labels"]))
    lattice = LatticeLogits(
        torch.randn(LARGE["frames"], LARGE["joint"]),
        table[[0, *tokens]],
        lambda encoder, decoder: torch.tanh(encoder + decoder) @ head + bias,
        0,
        Embeddings(table),
    )
    predictor = lattice.predictor
    assert predictor is not None
    whole = LARGE["frames"] * (LARGE["labels"] + 1) * LARGE["vocab"] * 4 / 1e6
    memory = peak_megabytes(lambda: lattice_likelihood(lattice, tokens))
    seconds = LARGE["frames"] * FRAME_SECONDS
    scoring = best_of(1, lambda: lattice_likelihood(lattice, tokens))
    searching = best_of(1, lambda: transducer_beam_search(lattice, predictor, BEAM, 5))
    changed = [(*tokens[:at], tokens[at] + 100, *tokens[at + 1 :]) for at in range(5, 75, 10)]
    short = replace(lattice, encoder_TJ=lattice.encoder_TJ[:50])
    together = best_of(1, lambda: sequence_likelihoods(short, predictor, [tokens, *changed]))
    alone = best_of(1, lambda: lattice_likelihood(short, tokens)) * BEAM
    return [
        Row("hypotheses.transducer.score", together, "s", "a lattice for each", alone / together),
        Row("full_sum.memory", memory, "MB", "the utterance's lattice", whole / memory),
        Row("full_sum.transducer", seconds / scoring, "× real time per core"),
        Row("hypotheses.transducer.search", seconds / searching, "× real time per core"),
    ]


def parse_args(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Sizes."""
    parser = arguments(__doc__)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--codebooks", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--train", type=int, default=8192)
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args(given)


def main() -> None:
    """Measure and publish."""
    args = parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"width {args.width}, beam {BEAM}, {LARGE}, float32, one thread")
    publish(codebook_rows(args) + ctc_rows(args) + transducer_rows(args), args.json)


if __name__ == "__main__":
    main()
