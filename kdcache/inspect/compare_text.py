"""How a comparison looks on a terminal: plain lines, no more than 100 columns wide."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdcache.inspect.comparison import ABSOLUTE, bytes_per_hour
from kdcache.inspect.text import format_bytes, format_count, format_settings, paragraph, row, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kdcache.inspect.comparison import BestPaths, Comparison, Figures, TargetComparison
    from kdcache.inspect.summary import CacheSummary, TargetSummary

WORST = 5
"""Utterances of a target that are named."""


def comparison_lines(comparison: Comparison, worst: int = WORST) -> list[str]:
    """Two caches in one screen; of each target so many utterances that differ most."""
    lines = [
        f"A  {_cache(comparison.a)}",
        f"B  {_cache(comparison.b)}",
        *_overlap_lines(comparison),
        "",
        *_size_lines(comparison.a, comparison.b),
    ]
    for target in comparison.targets:
        lines += ["", *_target_lines(comparison, target, worst)]
    return lines


def _cache(summary: CacheSummary) -> str:
    return f"{summary.path}  (teacher {summary.teacher}, {summary.teacher_fingerprint[:16]})"


def _overlap_lines(comparison: Comparison) -> Iterator[str]:
    found = comparison.overlap
    yield row("in common", format_count(found.common, "utterance"))
    yield from _alone("only in A", found.only_a, found.named_a)
    yield from _alone("only in B", found.only_b, found.named_b)
    if found.compared < found.common:
        yield row("compared", f"a sample of {found.compared:,}, evenly spaced in order of id")
    else:
        yield row("compared", "all in common")


def _alone(label: str, count: int, named: Sequence[str]) -> list[str]:
    if not count:
        return [row(label, "none")]
    more = ", …" if count > len(named) else ""
    return paragraph(label, f"{count:,}: {', '.join(named)}{more}")


def _size_lines(a: CacheSummary, b: CacheSummary) -> list[str]:
    """Bytes per hour of audio: of all files, and of each target's contents."""
    sizes: list[tuple[str, int | None, int | None]] = [("all files", a.bytes, b.bytes)]
    ours, theirs = ({target.name: target.bytes for target in side.targets} for side in (a, b))
    sizes += [(name, ours.get(name), theirs.get(name)) for name in {**ours, **theirs}]
    rows = [
        (name, _rate(of_a, a.hours), _rate(of_b, b.hours), _ratio(of_a, of_b, a.hours, b.hours))
        for name, of_a, of_b in sizes
    ]
    return table(("bytes per hour of audio", "A", "B", "B ÷ A"), rows)


def _rate(count: int | None, hours: float) -> str:
    rate = None if count is None else bytes_per_hour(count, hours)
    return "—" if rate is None else format_bytes(rate)


def _ratio(of_a: int | None, of_b: int | None, hours_a: float, hours_b: float) -> str:
    if not of_a or of_b is None or not hours_a or not hours_b:
        return "—"
    return f"{(of_b / hours_b) / (of_a / hours_a):.3f}"


def _target_lines(comparison: Comparison, target: TargetComparison, worst: int) -> Iterator[str]:
    yield f"target {target.name}"
    for side, summary in (("A", comparison.a), ("B", comparison.b)):
        spec = next(spec for spec in summary.targets if spec.name == target.name)
        yield from paragraph(f"{side} keeps", _kept(spec))
    yield row("compared", _compared(target))
    yield from _figure_lines(target)
    if target.paths is not None:
        yield from paragraph("best paths", _paths_text(target.paths))
    if not target.figures.max and not target.figures.infinite:
        return  # the same in every row
    yield from _worst_lines(target, worst)


def _worst_lines(target: TargetComparison, count: int) -> list[str]:
    """The utterances that differ most, with the columns that their target has."""
    head, still = ["worst utterance", "mean", "99 %", "max"], target.figures.changed is None
    head += [] if still else ["changed"]
    head += [] if target.paths is None else ["best path"]
    rows = []
    for item in target.worst(count):
        cells = [item.id, *_cells(item.figures)]
        cells += [] if still else [_share(item.figures)]
        cells += [] if target.paths is None else [_path_cell(item.paths)]
        rows.append(cells)
    return table(head, rows)


def _paths_text(paths: BestPaths) -> str:
    """``others in 12 of 363 utterances; 1.3 % of labels in another frame, by 0.05 s``."""
    text = f"others in {paths.other:,} of {format_count(paths.utterances, 'utterance')}"
    if not paths.other:
        return text
    share = f"{100 * paths.differ / max(paths.labels, 1):.3g} %"
    if paths.seconds is None:
        return f"{text}; {format_count(paths.differ, 'edit')} of labels, {share} of A's"
    moved = f"by {paths.seconds / max(paths.differ, 1):.3g} s"
    return f"{text}; {share} of labels in another frame, {moved} on average"


def _path_cell(paths: BestPaths | None) -> str:
    """``3 of 27 labels``: those that differ."""
    return "—" if paths is None else f"{paths.differ:,} of {paths.labels:,} labels"


def _kept(target: TargetSummary) -> str:
    codec = {name: value for name, value in target.codec.items() if name != "name"}
    parts = [target.kind, format_settings(target.settings), f"codec {target.codec.get('name')}"]
    return ", ".join(part for part in (*parts, format_settings(codec)) if part)


def _compared(target: TargetComparison) -> str:
    rows = target.figures.rows
    text = format_count(rows, target.row)
    if (rows, rows) == (target.rows_a, target.rows_b):
        return text
    return f"{text} of both, of {target.rows_a:,} in A and {target.rows_b:,} in B"


def _figure_lines(target: TargetComparison) -> Iterator[str]:
    figures = target.figures
    mean, p99, largest = _cells(figures)
    if target.record in ABSOLUTE:
        unit = "" if target.record == "vector" else " (nats)"
        yield row("|A − B|", f"mean {mean}, 99th percentile {p99}, max {largest}{unit}")
        yield from _whole_lines(figures)
        return
    unit = f"nats per {target.row}"
    yield row("KL(A ‖ B)", f"mean {mean}, 99th percentile {p99}, max {largest} ({unit})")
    if figures.infinite:
        text = (
            f"infinite at {format_count(figures.infinite, target.row)} more, where B rules out a "
            "class that A does not; these are left out above"
        )
        yield from paragraph("", text)
    yield row("changed", f"likeliest class of {_share(figures)} of {target.row}s")


def _whole_lines(figures: Figures) -> Iterator[str]:
    """What else is told of scores and hypotheses."""
    if figures.infinite:
        count = format_count(figures.infinite, "utterance")
        yield row("", f"infinite at {count} more, which one side alone rules out")
    if figures.changed is not None:
        yield row("changed", f"best hypothesis of {_share(figures)} of utterances")


def _cells(figures: Figures) -> tuple[str, str, str]:
    """Mean, 99th percentile and maximum."""
    mean, p99, largest = (
        "—" if value is None else f"{value:.3g}"
        for value in (figures.mean, figures.p99, figures.max)
    )
    return mean, p99, largest


def _share(figures: Figures) -> str:
    """``1.25 %``: of the rows, those whose likeliest class differs."""
    return f"{100 * (figures.changed or 0) / max(figures.rows, 1):.3g} %"
