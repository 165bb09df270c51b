"""Metrics of a run: one JSON object a line, appended as training goes."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from kdcache.stream import ShuffleQuality

FILE = "metrics.jsonl"

SHUFFLE = "shuffle.json"
"""How well a run's order is mixed, where that is a window over shards."""


def append_metrics(out: Path, values: dict[str, Any]) -> None:
    """Append one line."""
    with (out / FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(values) + "\n")


def read_metrics(out: Path, after: int = 0) -> list[dict[str, Any]]:
    """Whole lines of the metrics file from line ``after`` on; none if there is no file."""
    path = out / FILE
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    return [json.loads(line) for line in lines[after:]]


def save_shuffle(out: Path, window_shards: int, quality: ShuffleQuality) -> None:
    """Write how well an epoch is mixed that is ordered by a window."""
    values = {"window_shards": window_shards, **asdict(quality)}
    (out / SHUFFLE).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def note_of(values: dict[str, Any]) -> str:
    """What a progress line says of a step's metrics."""
    waiting = values["waiting"] / max(values["seconds"], 1e-9)
    return f"loss {values['loss']:.3f}, stall {waiting:.1%}"


def drop_metrics_after(out: Path, step: int) -> None:
    """Forget what was logged after ``step``, so that a resumed run has one line a step."""
    kept = [values for values in read_metrics(out) if values["step"] <= step]
    if (out / FILE).exists():
        text = "".join(json.dumps(values) + "\n" for values in kept)
        (out / FILE).write_text(text, encoding="utf-8")
