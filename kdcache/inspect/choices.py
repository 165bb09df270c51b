"""How chosen settings are told: as a table, with what stood beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kdcache.inspect.text import format_count, format_settings, table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kdcache.store import Choice, Considered

MEASURES = {
    "kl_full": "over the whole vocabulary",
    "kl": "over the kept classes",
    "kl_sampled": "of the draws from the teacher",
}
"""What the divergences of the catalogue are."""

_HEAD = ("", "settings", "MB an hour", "KL mean", "at most", "KL 99 %")


def settings_text(settings: Mapping[str, Any], codec: Mapping[str, Any]) -> str:
    """``min_p 5e-05; root, bits 7, tail top``."""
    own = {name: value for name, value in codec.items() if name != "name"}
    packed = ", ".join(part for part in (codec.get("name"), format_settings(own)) if part)
    return "; ".join(part for part in (format_settings(settings), packed) if part)


def choice_lines(choice: Choice) -> list[str]:
    """What was picked, beside the next cheaper and dearer ones, and why."""
    band = ", and what the band leaves out" if choice.band else ""
    rows = table(_HEAD, [_row(choice, row) for row in choice.table])
    return [
        f"{choice.target}: at most {choice.max_kl:g} nats {MEASURES[choice.measure]}{band}; "
        f"{format_count(choice.candidates, 'setting')} on "
        f"{format_count(choice.utterances, 'utterance')}",
        rows[0],
        *(f"{row}  {_why(choice, of)}" for row, of in zip(rows[1:], choice.table, strict=True)),
    ]


def _row(choice: Choice, row: Considered) -> tuple[str, ...]:
    return (
        "→" if row is choice.picked else "",
        settings_text(row.settings, row.codec),
        f"{row.bytes_per_hour / 1e6:.3g}",
        *(f"{value:.3g}" for value in (row.mean, row.upper, row.p99)),
    )


def _why(choice: Choice, row: Considered) -> str:
    if row is choice.picked:
        return "the smallest within it"
    if row.upper <= choice.max_kl:
        return "larger"
    return "loses too much" if row.mean > choice.max_kl else "may lose too much"
