"""Rows of the benchmarks' table: what was measured, beside which peer, in which ratio.

Every script prints its rows and adds them to one JSON file, a list of
``{"name", "value", "unit", "peer", "ratio"}``; a row that is measured again takes the place of
the one before.
"""

from __future__ import annotations

import argparse
import json
import platform
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

FILE = Path("build/benchmarks.json")


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement.

    Attributes:
        name: such as ``stream.read.zarr``.
        value, unit: what kdcache does.
        peer: what it is compared with, if with anything.
        ratio: how many times better kdcache is than the peer, measured in the same run.
    """

    name: str
    value: float
    unit: str
    peer: str | None = None
    ratio: float | None = None


def arguments(description: str | None) -> argparse.ArgumentParser:
    """A parser with what all benchmarks understand."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", type=Path, default=FILE, help="add the rows to this file")
    return parser


def publish(rows: Sequence[Row], path: Path) -> None:
    """Print the rows and add them to the file."""
    print(f"{date.today()}, {platform.processor() or platform.machine()}, {platform.platform()}")
    for row in rows:
        beside = "" if row.ratio is None else f"  ×{row.ratio:.3g} of {row.peer}"
        print(f"  {row.name:34} {row.value:12.5g} {row.unit}{beside}")
    old = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    mine = {(row.name, row.peer) for row in rows}
    kept = [row for row in old if (row["name"], row["peer"]) not in mine]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(kept + [asdict(row) for row in rows], indent=2) + "\n")
