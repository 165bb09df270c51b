"""Frame by frame: the likeliest classes with their probabilities, and entropy.

Shapes: T encoder frames, U labels, V vocabulary, C classes of a node with rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kdcache.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kdcache.codec import LatticeRecord

SHOWN = 4
"""Classes of a frame."""

REST = "rest"
"""Stands for the classes of a node that are not kept."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One encoder frame.

    Attributes:
        frame, seconds: where it begins.
        entropy: nats; of posteriors with the rest as they spread it, of a lattice's node with
            the rest as one class.
        pieces, probabilities: of the likeliest classes, the likeliest first.
    """

    frame: int
    seconds: float
    entropy: float
    pieces: tuple[str, ...]
    probabilities: tuple[float, ...]


def posterior_frames(
    logp_TV: np.ndarray, frame_shift: float, piece: Callable[[int], str]
) -> tuple[Frame, ...]:
    """Of posteriors over all classes."""
    names = {int(v): piece(int(v)) for v in np.unique(_top(logp_TV))}
    return tuple(
        _frame(t, frame_shift, logp_V, lambda v: names[v]) for t, logp_V in enumerate(logp_TV)
    )


def node_frames(
    lattice: LatticeRecord,
    frames_U: np.ndarray,
    labels: tuple[int | None, Sequence[int]],
    frame_shift: float,
    piece: Callable[[int], str],
) -> tuple[Frame, ...]:
    """Of the nodes at which the best path enters each frame.

    Args:
        lattice: of the utterance.
        frames_U: the frame of each label.
        labels: class id of blank, and the U labels.
        frame_shift: seconds.
        piece: text of a class.
    """
    blank, tokens = labels
    columns_T = np.searchsorted(frames_U, np.arange(len(lattice.logp_TSC)), side="left")
    found = []
    for t, u in enumerate(columns_T.tolist()):
        at = u - (0 if lattice.starts_T is None else int(lattice.starts_T[t]))
        waiting = tokens[u] if u < len(tokens) else None
        special = (
            "blank" if blank is None else piece(blank),
            "" if waiting is None else piece(waiting),
        )
        more = (piece(v) if v >= 0 else "" for v in lattice.ids_TSK[t, at].tolist())
        names = [*special, *more, REST]
        found.append(_frame(t, frame_shift, lattice.logp_TSC[t, at], names.__getitem__))
    return tuple(found)


def parse_frames(text: str, frames: int) -> range:
    """``100:140``, ``100:``, ``:140`` or ``100``, cut to the frames that there are.

    Raises:
        ConfigError: it is none of these, or holds none of the frames.
    """
    first, colon, last = text.partition(":")
    try:
        start = int(first) if first else 0
        stop = (int(last) if last else frames) if colon else start + 1
    except ValueError:
        start = stop = -1
    if not (text and 0 <= start < min(stop, frames)):
        raise ConfigError(
            f"--frames takes a range such as 100:140, of frames 0 to {frames - 1} of this "
            f"utterance, got {text!r}."
        )
    return range(start, min(stop, frames))


def _frame(t: int, shift: float, logp_C: np.ndarray, name: Callable[[int], str]) -> Frame:
    top = [int(c) for c in _top(logp_C[None])[0] if logp_C[c] > -np.inf]
    p_C = np.exp(logp_C.astype(np.float64))
    entropy = -float((p_C * np.where(p_C > 0, logp_C, 0.0)).sum())
    pieces = tuple(name(c) for c in top)
    return Frame(t, t * shift, max(entropy, 0.0), pieces, tuple(float(p_C[c]) for c in top))


def _top(logp_TC: np.ndarray) -> np.ndarray:
    """The likeliest classes of each row, the likeliest first, of equal ones the smallest id."""
    best: np.ndarray = np.argsort(-logp_TC, axis=1, kind="stable")[:, :SHOWN]
    return best
