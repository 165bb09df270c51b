"""How summaries look on a terminal: plain lines, one screen, no more than 100 columns wide."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from kdcache.inspect.coverage import Coverage
    from kdcache.inspect.summary import CacheSummary, Identity, TargetSummary, WorstUtterances
    from kdcache.inspect.utterance import UtteranceSummary
    from kdcache.store import Choice

WIDTH = 100
_LABEL = 14
_UNITS = {"kl": "nats"}


def format_bytes(count: float) -> str:
    """``12.3 MB``: three digits, powers of a thousand."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 99.95 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def format_duration(hours: float) -> str:
    """``12.3 s``, ``4.5 min`` or ``1,234.5 h``."""
    if hours >= 1:
        return f"{hours:,.1f} h"
    if hours * 60 >= 1:
        return f"{hours * 60:.1f} min"
    return f"{hours * 3600:.1f} s"


def format_count(count: int, noun: str) -> str:
    """``1 unit``, ``1,234 units``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def format_settings(settings: Mapping[str, Any]) -> str:
    """``top_k 8, band 5``; of a table, which may be long, its kind alone."""
    shown = {k: v.get("kind", "…") if isinstance(v, dict) else v for k, v in settings.items()}
    return ", ".join(f"{name} {value}" for name, value in sorted(shown.items()))


def choice_text(choice: Choice) -> str:
    """``for KL ≤ 0.001 among 24 settings on 40 utterances (0.0008 there)``."""
    return (
        f"for KL ≤ {choice.max_kl:g} among {format_count(choice.candidates, 'setting')} on "
        f"{format_count(choice.utterances, 'utterance')} ({choice.picked.mean:.2g} there)"
    )


def summary_lines(summary: CacheSummary, example: str | None = None) -> list[str]:
    """A cache in one screen.

    Args:
        summary: of the cache.
        example: id of an utterance for the lines that say how to read one.
    """
    lines = [*header_lines(summary.identity), *outline_lines(summary)]
    for target in summary.targets:
        lines += target_lines(target, summary.hours)
    return [*lines, *python_lines(summary, example, [target.name for target in summary.targets])]


def header_lines(known: Identity) -> list[str]:
    """What a cache says of itself before any of its utterances is looked at."""
    return [
        f"{known.path}  ({known.layout}, format {known.format_version})",
        row("teacher", f"{known.teacher}, {known.teacher_kind}"),
        row("", f"fingerprint {known.teacher_fingerprint[:16]}"),
        row("tokenizer", f"fingerprint {known.tokenizer[:16]}"),
    ]


def outline_lines(summary: CacheSummary) -> list[str]:
    """How much is in a cache, its targets left out."""
    lines = [
        row("utterances", _amount(summary)),
        row("failed", _failures(summary.failed)),
    ]
    if summary.units_incomplete or summary.units_set_aside:
        lines.append(row("units", _troubled(summary)))
    lines.append(row("size", _size(summary.bytes, summary.hours)))
    if summary.audio != "none":
        lines.append(row("audio", f"{summary.audio}, {_size(summary.audio_bytes, summary.hours)}"))
    if summary.content_digest:
        lines.append(row("digest", summary.content_digest))
    return lines


def status_lines(summary: CacheSummary, coverage: Coverage | None = None) -> list[str]:
    """How far an extraction is: what is committed and, given a corpus, what is not."""
    lines = [
        summary.path,
        row("committed", _amount(summary)),
        row("failed", _failures(summary.failed)),
        row("size", _size(summary.bytes, summary.hours)),
    ]
    if coverage:
        lines.append(row("corpus", _coverage(coverage)))
    return lines


def failure_lines(failures: Sequence[Mapping[str, str]]) -> list[str]:
    """A line for each utterance that failed: its ``id``, ``error`` code and ``message``."""
    return [f"{item['id']}: {item['error']}: {item['message']}" for item in failures]


def utterance_lines(utterance: UtteranceSummary) -> list[str]:
    """One utterance in one screen."""
    lines = [
        utterance.id,
        *paragraph("text", utterance.text or "(none)"),
        row("speaker", utterance.speaker or "(unknown)"),
        row("duration", f"{utterance.duration:.2f} s"),
        row("unit", utterance.unit),
    ]
    if utterance.error:
        return [*lines, *paragraph("failed", f"{utterance.error}: {utterance.message}")]
    tokens = " ".join(map(str, utterance.tokens)) or "(none)"
    lines += paragraph("tokens", f"{len(utterance.tokens)}: {tokens}")
    lines += [
        row("frames", f"{utterance.frames:,}"),
        row("size", format_bytes(utterance.bytes)),
    ]
    columns = [
        (column.name, column.dtype, _shape(column.shape), format_bytes(column.bytes))
        for column in utterance.columns
    ]
    lines += ["", *table(("column", "dtype", "shape", "bytes"), columns)]
    return [*lines, "", *_fidelity_lines("fidelity", utterance.fidelity or {})]


def target_lines(target: TargetSummary, hours: float) -> list[str]:
    """A target, below an empty line."""
    codec = {name: value for name, value in target.codec.items() if name != "name"}
    kind = ", ".join(part for part in (target.kind, format_settings(target.settings)) if part)
    packed = ", ".join(p for p in (target.codec.get("name"), format_settings(codec)) if p)
    lines = ["", f"target {target.name}", row("keeps", kind), row("codec", packed)]
    if target.choice is not None:
        lines += paragraph("chosen", choice_text(target.choice))
    lines.append(row("size", _size(target.bytes, hours)))
    lines += _fidelity_lines("fidelity", target.fidelity)
    if target.band_covers is not None:
        covered = f"{100 * target.band_covers:.3f} % of the teacher's occupancy"
        lines.append(row("band covers", covered))
    if target.worst is not None:
        lines += _worst_lines(target.worst)
    return lines


def _worst_lines(worst: WorstUtterances) -> list[str]:
    """``kl_mean of 99 % of utterances up to 0.0021; a-1 0.0043, a-7 0.0039``."""
    named = zip(worst.ids, worst.values, strict=True)
    most = ", ".join(f"{name} {value:.2g}" for name, value in named)
    return paragraph("utterances", f"{worst.measure} of 99 % up to {worst.p99:.2g}; most: {most}")


def _fidelity_lines(label: str, fidelity: Mapping[str, float]) -> list[str]:
    """``kl_mean 1.2e-05, kl_max 0.0031 (nats), error_max 0.2``."""
    if not fidelity:
        return [row(label, "not measured")]
    shown = {name: f"{name} {value:.2g}" for name, value in fidelity.items()}
    kl = [text for name, text in shown.items() if name.rpartition(".")[2].startswith("kl_")]
    others = [text for text in shown.values() if text not in kl]
    parts = [f"{', '.join(kl)} ({_UNITS['kl']})"] if kl else []
    return paragraph(label, ", ".join([*parts, *others]))


def python_lines(summary: CacheSummary, example: str | None, targets: Sequence[str]) -> list[str]:
    """How to open it, below an empty line: the utterance ``example`` and its first target."""
    lines = ["", "in Python", f"  cache = kdcache.open_cache({summary.path!r})"]
    if example and targets:
        lines.append(f"  record = cache[{example!r}][{targets[0]!r}]")
    return lines


def _amount(summary: CacheSummary) -> str:
    return (
        f"{format_count(summary.utterances, 'utterance')}, {format_duration(summary.hours)},"
        f" in {format_count(summary.units, 'unit')}"
    )


def _failures(failed: Mapping[str, int]) -> str:
    if not failed:
        return "none"
    reasons = ", ".join(f"{code} {count:,}" for code, count in failed.items())
    return f"{sum(failed.values()):,}: {reasons}"


def _troubled(summary: CacheSummary) -> str:
    """``2 with failed utterances, 1 damaged and taken out``."""
    parts = []
    if summary.units_incomplete:
        parts.append(f"{summary.units_incomplete:,} with failed utterances")
    if summary.units_set_aside:
        parts.append(f"{summary.units_set_aside:,} damaged and taken out: `kdcache repair`")
    return ", ".join(parts)


def _size(count: int, hours: float) -> str:
    per_hour = f", {format_bytes(count / hours)} per hour of audio" if hours else ""
    return f"{format_bytes(count)}{per_hour}"


def _coverage(coverage: Coverage) -> str:
    share = 100 * coverage.cached / coverage.utterances if coverage.utterances else 100.0
    text = (
        f"{coverage.cached:,} of {format_count(coverage.utterances, 'utterance')} ({share:.1f} %)"
    )
    if coverage.failed:
        text += f", {coverage.failed:,} failed"
    if coverage.waiting:
        text += f", {coverage.waiting:,} waiting ({format_duration(coverage.waiting_hours)})"
    return text


def _shape(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape)) or "scalar"


def row(label: str, value: str) -> str:
    """A label, and what there is to say of it."""
    return f"  {label:<{_LABEL}}{value}"


def paragraph(label: str, text: str) -> list[str]:
    """A row whose value may take several lines."""
    first, *rest = wrap(text, WIDTH - _LABEL - 2, break_on_hyphens=False) or [""]
    return [row(label, first), *(row("", line) for line in rest)]


def folded(lines: Iterable[str], width: int) -> list[str]:
    """Lines of at most ``width`` columns: longer ones go on below, under their values."""
    return [part for line in lines for part in _fold(line, max(width, 24))]


def _fold(line: str, width: int) -> list[str]:
    if len(line) <= width:
        return [line]
    blank = len(line) - len(line.lstrip())
    indent = min(_LABEL + 2 if blank == 2 else blank, width // 2)
    return wrap(
        line,
        width,
        subsequent_indent=" " * indent,
        break_on_hyphens=False,
        replace_whitespace=False,
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Columns as wide as their widest cell; the last one is flush right."""
    table = [head, *rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(head))]
    return [
        "  " + "  ".join([*(f"{c:<{w}}" for c, w in zip(row, widths[:-1], strict=False)),
                           f"{row[-1]:>{widths[-1]}}"])
        for row in table
    ]  # fmt: skip
