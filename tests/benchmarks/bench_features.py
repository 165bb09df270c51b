"""What log-mel features cost, beside transformers' extractor of the same.

    python tests/benchmarks/bench_features.py

A padded batch of 32 utterances of 10 to 15 s, as a training step hears it; one thread, seconds
that it has computed, the least of several in turns. Where there is a GPU, also there: the
extractor's on the CPU, then moved, beside ours on it, by the wall.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import torch
from rows import Row, arguments, publish
from transformers.models.parakeet import ParakeetFeatureExtractor

from kdcache.network.log_mel import log_mel

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

BATCH, RATE, REPEATS = 32, 16_000, 7
PEER = "transformers"


def extracted(
    extractor: ParakeetFeatureExtractor, audio_BN: Tensor, lengths_B: Tensor, device: str
) -> Tensor:
    """Features by the peer, which wants utterances apart and on the CPU."""
    samples = [row[:n].cpu() for row, n in zip(audio_BN, lengths_B.tolist(), strict=True)]
    out = extractor(samples, sampling_rate=RATE, return_tensors="pt")
    features: Tensor = out["input_features"].to(device)
    return features


def own(
    extractor: ParakeetFeatureExtractor, audio_BN: Tensor, lengths_B: Tensor, device: str
) -> Tensor:
    """Features where they are wanted."""
    return log_mel(extractor, audio_BN.to(device), lengths_B)[0]


def least(makers: dict[str, Callable[[], Tensor]], clock: Callable[[], float]) -> dict[str, float]:
    """The shortest time of each, which take turns."""
    times = dict.fromkeys(makers, float("inf"))
    for _ in range(REPEATS):
        for name, make in makers.items():
            begun = clock()
            make().sum().item()
            times[name] = min(times[name], clock() - begun)
    return times


def row(name: str, times: dict[str, float], seconds: float) -> Row:
    """How many seconds of speech a second makes into features."""
    return Row(name, seconds / times["own"], "s/s", PEER, times["peer"] / times["own"])


def main() -> None:
    """Print the rows."""
    args = arguments(__doc__).parse_args()
    torch.set_num_threads(1)
    random = torch.Generator().manual_seed(0)
    lengths_B = torch.randint(10 * RATE, 15 * RATE + 1, (BATCH,), generator=random)
    audio_BN = torch.randn(BATCH, int(lengths_B.max()), generator=random) * 0.1
    extractor, seconds = ParakeetFeatureExtractor(), int(lengths_B.sum()) / RATE
    rows = []
    for device, clock in (("cpu", time.thread_time), ("cuda", time.perf_counter)):
        if device == "cuda" and not torch.cuda.is_available():
            continue
        inputs = (extractor, audio_BN.to(device), lengths_B.to(device), device)
        makers = {"own": partial(own, *inputs), "peer": partial(extracted, *inputs)}
        rows.append(row(f"features.{device}", least(makers, clock), seconds))
    publish(rows, args.json)


if __name__ == "__main__":
    main()
