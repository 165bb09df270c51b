"""Where teacher and transcript disagree."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kdcache.inspect.belief import Token


@dataclass(frozen=True, slots=True)
class Disagreement:
    """One place.

    Attributes:
        seconds: where it begins; ``None`` where that is not known.
        transcript, teacher: what each says there; empty where it says nothing.
    """

    seconds: float | None
    transcript: str
    teacher: str


def different_labels(
    transcript: tuple[Sequence[int], Sequence[int] | None],
    teacher: tuple[Sequence[int], Sequence[int] | None],
    frame_shift: float,
    spell: Callable[[Sequence[int]], str],
) -> tuple[Disagreement, ...]:
    """What has to be changed to make one sequence of labels the other.

    Args:
        transcript, teacher: labels of each, and their frames where these are known.
        frame_shift: seconds.
        spell: text of label ids.
    """
    (ours, our_frames), (theirs, their_frames) = transcript, teacher
    found = []
    for what, a, b, c, d in SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes():
        if what != "equal":
            frame = _frame_at(their_frames, c, d)
            frame = _frame_at(our_frames, a, b) if frame is None else frame
            seconds = None if frame is None else frame * frame_shift
            found.append(Disagreement(seconds, spell(ours[a:b]), spell(theirs[c:d])))
    return tuple(found)


def rivals(tokens: Sequence[Token]) -> tuple[Disagreement, ...]:
    """Labels at whose place in time the teacher finds another label likelier."""
    return tuple(
        Disagreement(token.seconds, token.piece, token.rival_piece or "")
        for token in tokens
        if token.rival_log_p is not None and token.rival_log_p > token.log_p
    )


def _frame_at(frames: Sequence[int] | None, start: int, stop: int) -> int | None:
    """The frame of the first label from ``start`` on; ``None`` where there is none."""
    if frames is None or start == stop:
        return None
    return frames[start]
