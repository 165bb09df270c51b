"""The tables of ``docs/scale.md``, multiplied out from what was measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from scale_requests import Requests

HOURS = (1_000, 100_000, 1_000_000)
UNITS = (500, 2_000)
PAGE = 1_000
"""Keys that an object store lists in one request."""


@dataclass(frozen=True)
class Measured:
    """Bytes of a cache.

    Attributes:
        name: what it keeps.
        frames: encoder frames a second.
        layout: of its shards.
        data: bytes of shards per second of audio.
        part, index: bytes of catalogue and index per utterance.
        commit: bytes of a commit record.
    """

    name: str
    frames: float
    layout: str
    data: float
    part: float
    index: float
    commit: float


@dataclass(frozen=True)
class Prices:
    """Assumptions, in any money.

    Attributes:
        storage: of a GB (1e9 bytes) for a month.
        put, get: of 1,000 requests.
    """

    storage: float
    put: float
    get: float


def size(count: float) -> str:
    """``1.23 GB``, of 1e9 bytes."""
    for unit, one in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= one:
            return f"{count / one:.3g} {unit}" if count < 1e15 else f"{count / one:,.0f} {unit}"
    return f"{count:.0f} bytes"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """One table in Markdown."""
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def print_tables(
    measured: list[Measured],
    requests: dict[str, Requests],
    prices: Prices,
    seconds: int,
    count: int,
) -> None:
    """All tables; totals are of 25 frames a second in webdataset shards.

    Args:
        measured: recipes in order, with frame rates and layouts.
        requests: by layout.
        prices: assumptions.
        seconds: length of an utterance.
        count: utterances of the unit that was measured.
    """
    print(f"### Bytes per second of audio, measured over {count} utterances\n")
    _bytes(measured)
    print("### Bytes of the catalogue, measured\n")
    chosen = [m for m in measured if m.frames == 25 and m.layout == "webdataset"]
    head = ("kept", "a row in its part", "a row in the index", "a commit record")
    table(head, ((m.name, *(f"{x:,.0f}" for x in (m.part, m.index, m.commit))) for m in chosen))
    print("### Shards, in all\n")
    totals = ((m.name, *(size(m.data * 3600 * hours) for hours in HOURS)) for m in chosen)
    table(("kept", *(f"{hours:,} h" for hours in HOURS)), totals)
    both = next(m for m in chosen if " and " in m.name)
    print(f"### Objects, of {both.name}\n")
    _objects(both, seconds)
    print("### Requests, measured\n")
    _requests(requests)
    print(f"### Requests and cost, of {both.name}\n")
    _cost(both, requests["webdataset"], prices, seconds)


def _bytes(measured: list[Measured]) -> None:
    found = {(m.name, m.frames, m.layout): m.data for m in measured}
    names = list(dict.fromkeys(m.name for m in measured))
    ways = [(frames, layout) for frames in (25.0, 12.5) for layout in ("zarr", "webdataset")]
    head = ("kept", *(f"{frames:g}/s, {layout}" for frames, layout in ways))
    table(head, ((n, *(f"{found[(n, *way)]:,.0f}" for way in ways)) for n in names))


def _objects(of: Measured, seconds: int) -> None:
    rows = []
    for hours in HOURS:
        utterances = hours * 3600 // seconds
        for unit in UNITS:
            units = -(-utterances // unit)
            rows.append((
                f"{hours:,}", f"{utterances:,}", f"{unit:,}", f"{3 * units:,}",
                size(of.data * seconds * unit), size(of.part * utterances),
                size(of.index * utterances), size(of.commit * units),
            ))  # fmt: skip
    head = ("hours", "utterances", "in a unit", "objects", "a shard", "parts", "index", "commits")
    table(head, rows)


def _requests(requests: dict[str, Requests]) -> None:
    rows = []
    for layout, found in requests.items():
        for name, by_method in (
            ("committing a unit", found.commit),
            ("opening, compacted", found.opening),
            ("streaming an utterance", found.load),
        ):
            rows.append((layout, name, ", ".join(f"{n:g} {m}" for m, n in by_method.items())))
    table(("layout", "for", "requests"), rows)


def _cost(of: Measured, requests: Requests, prices: Prices, seconds: int) -> None:
    print(
        f"Assumed: {prices.storage:g} a GB-month, {prices.put:g} for 1,000 PUT, {prices.get:g} for "
        "1,000 GET, HEAD as GET; transfer is not counted.\n"
    )
    rows = []
    for hours in HOURS:
        utterances = hours * 3600 // seconds
        stored = of.data * seconds * utterances + (of.part + of.index) * utterances
        for unit in UNITS:
            units = -(-utterances // unit)
            put, head = (requests.commit.get(m, 0) * units for m in ("PUT", "HEAD"))
            gets = requests.load.get("GET", 0) * utterances
            rows.append((
                f"{hours:,}", f"{unit:,}", f"{stored / 1e9 * prices.storage:,.2f}",
                f"{put:,}", f"{(put * prices.put + head * prices.get) / 1e3:,.2f}",
                f"{gets:,.0f}", f"{gets / 1e3 * prices.get:,.2f}",
                f"{units:,}", f"{units / 1e3 * prices.get:,.2f}", f"{-(-units // PAGE):,}",
            ))  # fmt: skip
    head_row = (
        "hours", "in a unit", "a month", "PUT of the extraction", "cost",
        "GET of an epoch, by utterance", "cost", "GET of copying the shards", "cost",
        "LIST of an opening",
    )  # fmt: skip
    table(head_row, rows)
