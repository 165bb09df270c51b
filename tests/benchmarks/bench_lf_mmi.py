"""What a sum over a denominator graph costs beside a CTC loss, forward and backward.

    python tests/benchmarks/bench_lf_mmi.py

A batch of 16 utterances of 200 frames and 32 labels, n-grams of three orders of 500 random
transcripts; one thread. Seconds are those that it has computed, the least of several, in turns
within one process.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import ctc_loss

from kdcache.loss import denominator_of, estimate_ngram, lf_mmi_loss, sequence_kl

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

BATCH, FRAMES, LABELS = 16, 200, 32
REPEATS = 5


def seconds(loss: Callable[[Tensor], Tensor], logits: Tensor) -> float:
    """Of one forward and backward pass."""
    logits.grad = None
    begun = time.thread_time()
    loss(logits).sum().backward()
    return time.thread_time() - begun


def losses(tokens: int, order: int) -> tuple[int, dict[str, Callable[[Tensor], Tensor]]]:
    """States of the graph, and losses by name."""
    random = torch.Generator().manual_seed(0)
    # Each label is followed by few others, as in a language.
    steps = torch.randint(1, 4, (500, LABELS), generator=random)
    transcripts = (steps.cumsum(1) * 7 % tokens).tolist()
    graph = denominator_of(estimate_ngram(transcripts, tokens, order))
    labels = torch.tensor(transcripts[:BATCH])
    frames, lengths = torch.full((BATCH,), FRAMES), torch.full((BATCH,), LABELS)
    teacher = torch.randn(BATCH, FRAMES, tokens + 1, generator=random)

    def ctc(logits: Tensor) -> Tensor:
        logp = logits.log_softmax(-1).transpose(0, 1)
        return ctc_loss(logp, labels, frames, lengths, blank=tokens, reduction="none")

    return len(graph.end_S), {
        "ctc": ctc,
        "lf_mmi": lambda x: lf_mmi_loss(x, frames, labels, lengths, graph, "none"),
        "sequence_kd": lambda x: sequence_kl(x, teacher, frames, graph),
    }


def main() -> None:
    """Print a table."""
    torch.set_num_threads(1)
    print("| tokens | order | states | CTC | LF-MMI | sequence KD |")
    print("|---:|---:|---:|---:|---:|---:|")
    for tokens, order in ((30, 1), (30, 2), (30, 3), (200, 2)):
        states, named = losses(tokens, order)
        logits = torch.randn(BATCH, FRAMES, tokens + 1).requires_grad_()
        best = dict.fromkeys(named, float("inf"))
        for _ in range(REPEATS):
            for name, loss in named.items():
                best[name] = min(best[name], seconds(loss, logits))
        times = [f"×{best[name] / best['ctc']:.1f}" for name in ("lf_mmi", "sequence_kd")]
        cells = [tokens, order, states, f"{best['ctc'] * 1e3:.1f} ms", *times]
        print(f"| {' | '.join(map(str, cells))} |")


if __name__ == "__main__":
    main()
