"""Utterances in a table: those of a condition, in an order, or with unlikely transcripts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from kdcache.errors import ConfigError
from kdcache.inspect.fields import Field, Fields
from kdcache.inspect.text import WIDTH, format_count, format_duration, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcache.inspect.noise import Noise
    from kdcache.inspect.select import Selection
    from kdcache.store import Cache

_TEXT_ROOM = 16
"""Characters of a text that are always shown."""


@dataclass(frozen=True, slots=True)
class Listing:
    """Some utterances.

    Attributes:
        found: how many fulfil the condition.
        hours: of their audio.
        sorted_by: the field; ``None`` of those in order of id.
        utterances: the first of them, by field; ``None`` where one has no value.
    """

    found: int
    hours: float
    sorted_by: str | None
    utterances: tuple[dict[str, Any], ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return asdict(self)


def list_selection(cache: Cache, selection: Selection) -> Listing:
    """Look up what is told of selected utterances: id, size, divergence, order and text."""
    fields = Fields(cache)
    asked = [fields.find(name) for name in ("id", "duration", "labels")]
    asked += [*_divergences(fields), *([selection.order] if selection.order else [])]
    unique = list({field.name: field for field in [*asked, fields.find("text")]}.values())
    rows = fields.take(selection.rows_N, unique)
    order = selection.order.name if selection.order else None
    return Listing(selection.found, selection.hours, order, tuple(rows))


def listing_lines(listing: Listing) -> list[str]:
    """A table, and how many utterances it is of."""
    shown = len(listing.utterances)
    lines = [f"{format_count(listing.found, 'utterance')}, {format_duration(listing.hours)}"]
    if shown < listing.found:
        lines[0] += f"; {shown:,} of them, by {listing.sorted_by or 'id'}"
    if not listing.utterances:
        return lines
    names = list(listing.utterances[0])
    rows = [[_cell(row[name]) for name in names] for row in listing.utterances]
    return [*lines, "", *_with_text(names, rows)]


def noise_lines(noise: Noise) -> list[str]:
    """A table of the most unlikely transcripts."""
    head = f"least likely transcripts, by target {noise.target}: −log P(y|x) in nats per label"
    if not noise.utterances:
        return [head, "", "  none"]
    rows = [
        [f"{one.nats_per_label:.3f}", str(one.labels), one.id, one.text] for one in noise.utterances
    ]
    return [head, "", *_with_text(["nats", "labels", "id", "text"], rows)]


def _with_text(names: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table whose last column, the text, takes what room is left."""
    others = sum(2 + max(len(cells[i]) for cells in [names, *rows]) for i in range(len(names) - 1))
    room = max(WIDTH - others - 2, _TEXT_ROOM)
    short = [[*cells[:-1], _cut(cells[-1], room).ljust(room)] for cells in rows]
    lines = table([*names[:-1], names[-1].ljust(room)], short)
    return [line.rstrip() for line in lines]


def _divergences(fields: Fields) -> list[Field]:
    try:
        return [fields.find("kl")]
    except ConfigError:
        return []


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() else f"{value:.4g}"
    return "" if value is None else " ".join(str(value).split())


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else text[: room - 1] + "…"
