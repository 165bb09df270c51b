"""How one utterance's belief looks on a terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from kdcache.inspect.text import paragraph, row, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcache.inspect.belief import Belief, Token
    from kdcache.inspect.doubt import Disagreement
    from kdcache.inspect.frames import Frame

_BARS = "▁▂▃▄▅▆▇█"
_BARS_WIDE = 80


def belief_lines(belief: Belief, frames: range | None = None) -> list[str]:
    """What the teacher believed.

    Args:
        belief: of an utterance.
        frames: those to show one by one.
    """
    lines = [""]
    if belief.log_p is not None and belief.log_p_per_label is not None:
        each = f"{belief.log_p:.2f} nats, {belief.log_p_per_label:.3f} a label"
        lines.append(row("log P(y|x)", each))
    if belief.aligned_by is not None and belief.path_log_p is not None:
        best = f"{belief.path_log_p:.2f} nats, by target {belief.aligned_by}"
        lines.append(row("best path", best))
    if belief.says is not None:
        said = f"{belief.says or '(nothing)'} (target {belief.said_by})"
        lines += paragraph("teacher says", said)
    if belief.says is not None or belief.tokens:
        lines += _disagreement_lines(belief.disagreements)
    if belief.frames:
        lines += _entropy_lines(belief.frames)
    for note in belief.notes:
        lines += paragraph("note", note)
    if belief.tokens:
        lines += ["", *_token_lines(belief.tokens)]
    if frames is not None and belief.frames:
        lines += ["", *_frame_lines([belief.frames[t] for t in frames])]
    return lines


def _disagreement_lines(found: Sequence[Disagreement]) -> list[str]:
    """``0.48 s one → two``."""
    if not found:
        return [row("disagrees", "nowhere")]
    parts = [
        f"{_at(one.seconds)}{one.transcript or '(nothing)'} → {one.teacher or '(nothing)'}"
        for one in found
    ]
    return paragraph("disagrees", f"{len(found)}, transcript → teacher: " + "; ".join(parts))


def _entropy_lines(frames: Sequence[Frame]) -> list[str]:
    """Mean, largest, and a picture of it over time."""
    values = [frame.entropy for frame in frames]
    peak = max(range(len(values)), key=values.__getitem__)
    figures = (
        f"mean {sum(values) / len(values):.3f} nats, most {values[peak]:.3f} at "
        f"{frames[peak].seconds:.2f} s (frame {peak})"
    )
    return [row("entropy", figures), row("", entropy_bars(values))]


def entropy_bars(values: Sequence[float], wide: int = _BARS_WIDE) -> str:
    """A bar for each stretch of time, as high as the largest value in it."""
    each = max(1, math.ceil(len(values) / wide))
    tops = [max(values[at : at + each]) for at in range(0, len(values), each)]
    scale = (len(_BARS) - 1) / (max(tops, default=0.0) or 1.0)
    return "".join(_BARS[round(top * scale)] for top in tops)


def _token_lines(tokens: Sequence[Token]) -> list[str]:
    head = ("seconds", "frame", "label", "P", "likeliest other")
    rows = []
    for token in tokens:
        other = ""
        if token.rival_piece is not None and token.rival_log_p is not None:
            sign = "!" if token.rival_log_p > token.log_p else ""
            other = f"{sign} {token.rival_piece} {_share(math.exp(token.rival_log_p))}".strip()
        share = _share(math.exp(token.log_p))
        rows.append((f"{token.seconds:.2f}", str(token.frame), token.piece, share, other))
    room = max(len(cells[-1]) for cells in [head, *rows])
    left = [(*cells[:-1], cells[-1].ljust(room)) for cells in rows]
    return [line.rstrip() for line in table((*head[:-1], head[-1].ljust(room)), left)]


def _frame_lines(frames: Sequence[Frame]) -> list[str]:
    rows = []
    for frame in frames:
        classes = zip(frame.pieces, frame.probabilities, strict=True)
        shown = "  ".join(f"{piece} {_share(p)}" for piece, p in classes)
        rows.append((str(frame.frame), f"{frame.seconds:.2f}", f"{frame.entropy:.3f}", shown))
    width = max((len(cells[3]) for cells in rows), default=0)
    padded = [(*cells[:3], cells[3].ljust(width)) for cells in rows]
    return [
        line.rstrip()
        for line in table(("frame", "seconds", "entropy", "classes".ljust(width)), padded)
    ]


def _share(p: float) -> str:
    return f"{p:.3f}" if p >= 0.0005 or p == 0 else f"{p:.0e}"


def _at(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.2f} s "
