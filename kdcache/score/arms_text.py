"""A comparison of arms as a Markdown table."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kdcache.score.arms import Arm
    from kdcache.score.paired import RelativeChange

FORMATS: dict[str, tuple[str, Callable[[float], str]]] = {
    "parameters": ("parameters", lambda value: f"{value:,.0f}"),
    "bytes": ("bytes", lambda value: f"{value:,.0f}"),
    "sparsity": ("sparsity", lambda value: f"{value:.1%}"),
    "sparse_bytes": ("bytes, sparse", lambda value: f"{value:,.0f}"),
    "real_time_factor": ("real time", lambda value: f"×{value:.4f}"),
    "entropy_encoder": ("H of frames", lambda value: f"{value:.3f}"),
    "entropy_joint": ("H of nodes", lambda value: f"{value:.3f}"),
    "entropy_nodes": ("H of all nodes", lambda value: f"{value:.3f}"),
    "latency_mean": ("latency, mean", lambda value: f"{value * 1e3:,.0f} ms"),
    "latency_worst": ("latency, worst", lambda value: f"{value * 1e3:,.0f} ms"),
    "chunk_seconds": ("computing a chunk", lambda value: f"{value * 1e3:.1f} ms"),
    "worst_chunk_seconds": ("computing, worst", lambda value: f"{value * 1e3:.1f} ms"),
    "weight": ("μ", lambda value: f"{value:.2f}"),
    "nearest": ("nearest", lambda value: f"{value:.2%}"),
    "cache_bytes_per_hour": ("cache per hour", lambda value: f"{value / 1e6:.2f} MB"),
}
"""Heading and form of figures that are known; others are shown with four digits."""


def arms_table(arms: Sequence[Arm], columns: Sequence[str] = ()) -> str:
    """A Markdown table, its columns aligned.

    Args:
        arms: rows.
        columns: figures to show; all that any arm has if empty.
    """
    shown = list(columns or dict.fromkeys(name for arm in arms for name in arm.figures))
    controls = list(arms[0].changes) if arms else []
    head = ["", "seeds", "WER", "least – greatest"]
    head += [f"{heading}, 95 % interval" for heading in controls]
    head += [FORMATS[name][0] if name in FORMATS else name for name in shown]
    rows = [_cells(arm, controls, shown) for arm in arms]
    return markdown(head, rows)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table: the first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    rules = [":" + "-" * max(widths[0] - 1, 1), *("-" * max(w - 1, 1) + ":" for w in widths[1:])]
    return "\n".join(_line(row, widths) for row in (head, rules, *rows))


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(row, widths, strict=True)
    cells = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
    return f"| {' | '.join(cells)} |"


def _cells(arm: Arm, controls: Sequence[str], columns: Sequence[str]) -> list[str]:
    spread = f"{arm.wer_low:.2%} – {arm.wer_high:.2%}" if arm.seeds > 1 else "–"
    return [
        arm.name,
        str(arm.seeds),
        f"{arm.wer:.2%}",
        spread,
        *(_change(arm.changes[heading]) for heading in controls),
        *(_figure(name, arm.figures.get(name)) for name in columns),
    ]


def _change(change: RelativeChange | None) -> str:
    if change is None:
        return "–"
    return f"{change.change:+.1%} ({change.low:+.1%} to {change.high:+.1%})".replace("-", "−")


def _figure(name: str, value: float | None) -> str:
    if value is None:
        return "–"
    return FORMATS[name][1](value) if name in FORMATS else f"{value:.4g}"
