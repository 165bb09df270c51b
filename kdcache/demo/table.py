"""The demo's result as people read it, and as programs do."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

HEADINGS = ("", "WER", "95 % interval", "parameters", "bytes", "real time")


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One model's figures.

    Attributes:
        wer, low, high: word error rate on the test set and its 95 % bootstrap interval.
        parameters: of the network.
        bytes: of its weights.
        real_time_factor: seconds of computing ÷ seconds of audio.
    """

    wer: float
    low: float
    high: float
    parameters: int
    bytes: int
    real_time_factor: float


@dataclass(frozen=True, slots=True)
class CacheRow:
    """The cache's figures.

    Attributes:
        bytes_per_hour: of audio, everything in the cache counted.
        mean_kl: nats per node that the codec lost, mean over all nodes' utterances.
        hours: of audio.
        layout: zarr or webdataset.
        utterances: how many.
        content_digest: of the cache.
    """

    bytes_per_hour: float
    mean_kl: float
    hours: float
    layout: str
    utterances: int
    content_digest: str


@dataclass(frozen=True, slots=True)
class DemoResult:
    """Everything that the demo found out.

    Attributes:
        teacher, student_plain, student_cached: the three models.
        cache: what the cached student learnt from.
        seconds: of the whole demo, stages that were already there left out.
        stages: seconds by stage.
    """

    teacher: ModelRow
    student_plain: ModelRow
    student_cached: ModelRow
    cache: CacheRow
    seconds: float
    stages: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return asdict(self)


def demo_table(result: DemoResult) -> str:
    """The result as aligned text."""
    named = {
        "teacher": result.teacher,
        "student, no teacher": result.student_plain,
        "student, from cache": result.student_cached,
    }
    rows = [HEADINGS, *(_cells(name, row) for name, row in named.items())]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADINGS))]
    lines = ["  ".join(_aligned(row, widths)).rstrip() for row in rows]
    lines.insert(1, "  ".join("─" * width for width in widths))
    return "\n".join([*lines, "", *_cache_lines(result), ""])


def _cells(name: str, row: ModelRow) -> tuple[str, ...]:
    return (
        name,
        f"{row.wer:.2%}",
        f"{row.low:.2%} – {row.high:.2%}",
        f"{row.parameters:,}",
        f"{row.bytes:,}",
        f"×{row.real_time_factor:.4f}",
    )


def _aligned(row: tuple[str, ...], widths: list[int]) -> list[str]:
    first, *others = zip(row, widths, strict=True)
    return [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]


def _cache_lines(result: DemoResult) -> list[str]:
    cache = result.cache
    return [
        f"cache     {cache.layout}, {cache.utterances} utterances, {cache.hours:.3f} h, "
        f"{cache.bytes_per_hour / 1e6:.2f} MB per hour of audio",
        f"fidelity  mean KL of the codec {cache.mean_kl:.2e} nats per node",
        f"time      {result.seconds:.0f} s ("
        + ", ".join(f"{name} {seconds:.0f}" for name, seconds in result.stages.items())
        + ")",
    ]
