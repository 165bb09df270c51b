"""Metrics of a run: one JSON object a line, appended as training goes.

<out>/metrics.jsonl      a line a step
<out>/validation.jsonl   a line a validation
<out>/report.json        the last step's line, once the run has ended
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from kdcache.stream import ShuffleQuality

FILE = "metrics.jsonl"

VALIDATION = "validation.jsonl"

REPORT = "report.json"

SHUFFLE = "shuffle.json"
"""How well a run's order is mixed, where that is a window over shards."""


def append_metrics(out: Path, values: dict[str, Any], file: str = FILE) -> None:
    """Append one line."""
    with (out / file).open("a", encoding="utf-8") as opened:
        opened.write(json.dumps(values) + "\n")


def read_metrics(out: Path, after: int = 0, file: str = FILE) -> list[dict[str, Any]]:
    """Whole lines of the metrics file from line ``after`` on; none if there is no file."""
    path = out / file
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
    for file in (FILE, VALIDATION):
        if (out / file).exists():
            kept = [values for values in read_metrics(out, file=file) if values["step"] <= step]
            _replace(out / file, "".join(json.dumps(values) + "\n" for values in kept))


def save_report(out: Path, values: dict[str, Any]) -> None:
    """Write what the last step of a run came to."""
    _replace(out / REPORT, json.dumps(values, indent=2) + "\n")


def read_report(out: Path) -> dict[str, Any] | None:
    """The last step's metrics, from the report or from the metrics; ``None`` if both are gone."""
    if (out / REPORT).is_file():
        found: dict[str, Any] = json.loads((out / REPORT).read_text(encoding="utf-8"))
        return found
    lines = read_metrics(out)
    return lines[-1] if lines else None


def _replace(path: Path, text: str) -> None:
    """Write all of a file or nothing."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
