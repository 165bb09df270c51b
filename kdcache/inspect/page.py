"""A report as one HTML file that needs nothing else: no network, no server.

Whatever comes from the cache is text, and escaped. The page's policy forbids everything that is
not in it, and any script but its own, whose hash it names.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from kdcache.inspect.histogram import BINS
from kdcache.inspect.report import ENDS, SAMPLED
from kdcache.inspect.text import (
    format_bytes,
    format_count,
    format_duration,
    format_settings,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kdcache.inspect.fields import Field
    from kdcache.inspect.histogram import Histogram
    from kdcache.inspect.report import Report
    from kdcache.inspect.summary import CacheSummary, TargetSummary

_WIDE, _HIGH, _FOOT = 320, 120, 16  # of a chart, in its own units


@dataclass(frozen=True, slots=True)
class Shown:
    """One utterance in full.

    Attributes:
        text: its transcript.
        picture: a PNG file; ``None`` where there is nothing to draw.
        audio: a FLAC file; ``None`` where there is none.
        note: what is missing, and why; empty where nothing is.
    """

    text: str
    picture: bytes | None = None
    audio: bytes | None = None
    note: str = ""


def page(report: Report, shown: Mapping[str, Shown]) -> str:
    """The HTML of a report; the same report gives the same page.

    Args:
        report: of a cache.
        shown: the worst and the best utterances, and those of the sample, by id.
    """
    style, script = (
        files("kdcache.inspect").joinpath(name).read_text("utf-8")
        for name in ("report.css", "report.js")
    )
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "img-src data:; media-src data:"
    )
    title = escape(f"{report.summary.path}: report")
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<link rel="icon" href="data:,">',
            f"<title>{title}</title>",
            f"<style>\n{style}</style>",
            "</head>",
            "<body>",
            *_body(report, shown),
            f"<script>{script}</script>",
            "</body>",
            "</html>",
            "",
        ]
    )


def _body(report: Report, shown: Mapping[str, Shown]) -> Iterable[str]:
    by = escape(report.order.name)
    yield f"<header><h1>{escape(report.summary.path)}</h1>"
    yield '<nav aria-label="Parts"><a href="#summary">Summary</a> '
    yield '<a href="#distributions">Distributions</a> <a href="#worst">Worst</a> '
    yield '<a href="#best">Best</a> <a href="#sample">Sample</a> '
    yield '<a href="#all">Utterances</a></nav></header>'
    yield "<main>"
    yield from _summary(report.summary)
    everything = format_count(report.summary.utterances, "utterance")
    yield f'<section id="distributions"><h2>Distributions, of all {everything}</h2>'
    yield '<div class="charts">'
    for one in report.histograms:
        yield _chart(one)
    yield "</div></section>"
    for name, title, ids in (
        ("worst", f"Worst: the most {by}", report.worst),
        ("best", f"Best: the least {by}", report.best),
        ("sample", "Sample: others, evenly spaced in order of id", report.sample),
    ):
        yield f'<section id="{name}"><h2>{title}</h2>'
        for key in ids:
            yield from _utterance(key, shown[key])
        yield "</section>"
    yield from _table(report)
    yield "</main>"


def _summary(summary: CacheSummary) -> Iterable[str]:
    failed = ", ".join(f"{count:,} {code}" for code, count in sorted(summary.failed.items()))
    each = summary.bytes_per_hour
    told = {
        "teacher": f"{summary.teacher}, {summary.teacher_kind}",
        "teacher's fingerprint": summary.teacher_fingerprint[:16],
        "tokenizer's fingerprint": summary.tokenizer[:16],
        "utterances": f"{summary.utterances:,}",
        "audio": format_duration(summary.hours),
        "failed": failed or "none",
        "units": f"{summary.units:,}{_trouble(summary)}",
        "bytes": format_bytes(summary.bytes)
        + ("" if each is None else f", {format_bytes(each)} per hour of audio"),
        "written as": f"{summary.layout}, format {summary.format_version}",
    }
    yield '<section id="summary"><h2>Summary</h2><dl>'
    for name, value in told.items():
        yield f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>"
    yield '</dl><div class="wide"><table><thead><tr>'
    heads = ("target", "kind", "codec", "bytes", "fidelity", "99th percentile")
    yield "".join(f'<th scope="col">{head}</th>' for head in heads) + "</tr></thead><tbody>"
    for target in summary.targets:
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in _target(target))
        yield f"<tr>{cells}</tr>"
    yield "</tbody></table></div></section>"


def _trouble(summary: CacheSummary) -> str:
    parts = [
        f"{count:,} {what}"
        for count, what in (
            (summary.units_incomplete, "with failed utterances"),
            (summary.units_set_aside, "set aside as damaged"),
        )
        if count
    ]
    return f" ({', '.join(parts)})" if parts else ""


def _target(target: TargetSummary) -> tuple[str, ...]:
    codec = dict(target.codec)
    packed = f"{codec.pop('name', '')} {format_settings(codec)}".strip()
    kind = f"{target.kind} {format_settings(target.settings)}".strip()
    means = (f"{k} {v:.3g}" for k, v in sorted(target.fidelity.items()))
    worst = target.worst
    p99 = "" if worst is None else f"{worst.measure} {worst.p99:.3g}"
    return target.name, kind, packed, format_bytes(target.bytes), ", ".join(means), p99


def _chart(one: Histogram) -> str:
    """Bars of an SVG; a screen reader is told the figures."""
    tallest, width = max(one.counts), _WIDE / BINS
    bars = "".join(
        f'<rect x="{place * width:.1f}" y="{_HIGH - high:.1f}" width="{width - 1:.1f}" '
        f'height="{high:.1f}"><title>{count:,}</title></rect>'
        for place, count in enumerate(one.counts)
        for high in [_HIGH * count / tallest]
    )
    least, most = f"{one.least:.3g}", f"{one.most:.3g}"
    name = escape(_with_unit(one.name))
    total = sum(one.counts)
    missing = f", {one.missing:,} without a value" if one.missing else ""
    return (
        f'<figure><svg viewBox="0 0 {_WIDE} {_HIGH + _FOOT}" role="img" '
        f'aria-label="{name}: {format_count(total, "utterance")} from {least} to {most}">'
        f'{bars}<line x1="0" y1="{_HIGH}" x2="{_WIDE}" y2="{_HIGH}"/>'
        f'<text x="0" y="{_HIGH + 13}">{least}</text>'
        f'<text x="{_WIDE}" y="{_HIGH + 13}" text-anchor="end">{most}</text></svg>'
        f"<figcaption>{name}: up to {format_count(tallest, 'utterance')} a bar{missing}"
        "</figcaption></figure>"
    )


def _utterance(key: str, shown: Shown) -> Iterable[str]:
    name = escape(key)
    yield f"<article><h3>{name}</h3><p>{escape(shown.text)}</p>"
    if shown.audio is not None:
        source = f"data:audio/flac;base64,{b64encode(shown.audio).decode()}"
        yield f'<audio controls preload="metadata" aria-label="Audio of {name}" '
        yield f'src="{source}"></audio>'
    if shown.picture is not None:
        source = f"data:image/png;base64,{b64encode(shown.picture).decode()}"
        said = f"What the teacher believed of {name}, over time"
        yield f'<img alt="{said}" src="{source}">'
    if shown.note:
        yield f'<p class="note">{escape(shown.note)}</p>'
    yield "</article>"


def _table(report: Report) -> Iterable[str]:
    count, whole = len(report.utterances), report.summary.utterances
    yield '<section id="all"><h2>Utterances</h2>'
    if count < whole:
        by = escape(report.order.name)
        yield (
            f'<p class="note">{count:,} of {whole:,}: the {ENDS:,} with most and the {ENDS:,} with '
            f"least {by}, and {SAMPLED:,} evenly spaced in order of id. <code>kdcache ls</code> "
            "and <code>kdcache inspect --where</code> list any others.</p>"
        )
    yield '<p><label for="search">Search: </label><input id="search" type="search" '
    yield 'autocomplete="off"> <span id="count" role="status"></span></p>'
    yield '<div class="wide"><table id="utterances"><thead><tr>'
    for column in report.columns:
        order = ' aria-sort="descending"' if column == report.order else ""
        yield (
            f'<th scope="col"{_kind(column)}{order}><button type="button">'
            f"{escape(_with_unit(column.name))}</button></th>"
        )
    yield "</tr></thead><tbody>"
    for row in report.utterances:
        cells = (_cell(column, row[column.name]) for column in report.columns)
        yield f"<tr>{''.join(cells)}</tr>"
    yield "</tbody></table></div></section>"


def _with_unit(name: str) -> str:
    unit = "s" if name == "duration" else "nats" if ".kl_" in name else ""
    return f"{name} ({unit})" if unit else name


def _kind(column: Field) -> str:
    return "" if column.is_text else ' class="number"'


def _cell(column: Field, value: Any) -> str:
    """What is shown, and beside it what is sorted by."""
    if value is None or value != value:  # NaN
        exact = text = ""
    elif column.is_text:
        exact = text = str(value)
    else:
        exact, text = repr(float(value)).replace("inf", "Infinity"), f"{value:.4g}"
    return f'<td{_kind(column)} data-value="{escape(exact)}">{escape(text)}</td>'
