"""Alignments of a transcript to frames, from what a cache keeps: numpy alone.

Of a transducer (Graves 2012, arXiv 1211.3711): at node (t, u) blank leads to (t+1, u) and the next
label to (t, u+1), and a path ends with a blank at (T−1, U). Of CTC (Graves et al. 2006, section
4.1): labels and blanks between them, each for some frames.

Shapes: T encoder frames, U labels (a node axis has U+1 entries), S columns of a frame's window,
V vocabulary with blank, P = 2U+1 states of CTC.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kdcache.codec.records import BLANK, LABEL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kdcache.codec import LatticeRecord


def full_sum(lattice: LatticeRecord) -> float:
    """log P(y | x) in nats over all paths within the lattice; of a band, a lower bound."""
    score_TU, blank_TU, _ = ways_in(lattice)
    return float(score_TU[-1, -1] + blank_TU[-1, -1])


def best_path(lattice: LatticeRecord) -> tuple[np.ndarray, float]:
    """The likeliest path: the frame at which each label is emitted, int64 (U,), and its log P.

    Of equally likely ones the one that emits earlier. Without any path the log P is −inf, and
    the frames mean nothing.
    """
    score_TU, blank_TU, label_TU = _sweep(lattice, np.maximum)
    t, u = len(score_TU) - 1, score_TU.shape[1] - 1
    frames_U = np.zeros(u, np.int64)
    while u:
        waited = score_TU[t - 1, u] + blank_TU[t - 1, u] if t else -np.inf
        if t and waited >= score_TU[t, u - 1] + label_TU[t, u - 1]:
            t -= 1
        else:
            u -= 1
            frames_U[u] = t
    return frames_U, float(score_TU[-1, -1] + blank_TU[-1, -1])


def ways_in(lattice: LatticeRecord) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log of the sum over all ways into each node, and of its arcs, blank and label: each float64
    (T, U+1)."""
    return _sweep(lattice, np.logaddexp)


def dense(lattice: LatticeRecord) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities of blank and of the next label at every node, float64 (T, U+1): −inf
    outside the band."""
    frames, width = lattice.logp_TSC.shape[:2]
    starts_T = np.zeros(frames, np.int64) if lattice.starts_T is None else lattice.starts_T
    columns_TS = starts_T[:, None] + np.arange(width)
    found = []
    for of in (BLANK, LABEL):
        logp_TU = np.full((frames, lattice.labels + 1), -np.inf)
        logp_TU[np.arange(frames)[:, None], columns_TS] = lattice.logp_TSC[:, :, of]
        found.append(logp_TU)
    blank_TU, label_TU = found
    label_TU[:, -1] = -np.inf
    return blank_TU, label_TU


def _sweep(
    lattice: LatticeRecord, join: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of all ways into each node, diagonal by diagonal; and the arcs, (T, U+1) each."""
    blank_TU, label_TU = dense(lattice)
    frames, columns = blank_TU.shape
    score_TU = np.full((frames, columns), -np.inf)
    score_TU[0, 0] = 0.0
    for diagonal in range(1, frames + columns - 1):
        u = np.arange(max(0, diagonal - frames + 1), min(columns, diagonal + 1))
        t = diagonal - u
        before, below = np.maximum(t - 1, 0), np.maximum(u - 1, 0)
        waited = np.where(t > 0, score_TU[before, u] + blank_TU[before, u], -np.inf)
        said = np.where(u > 0, score_TU[t, below] + label_TU[t, below], -np.inf)
        score_TU[t, u] = join(waited, said)
    return score_TU, blank_TU, label_TU


def ctc_path(logp_TV: np.ndarray, tokens: Sequence[int], blank: int) -> tuple[np.ndarray, float]:
    """The likeliest CTC alignment: the first frame of each label, int64 (U,), and its log P.

    Args:
        logp_TV: float64, log-probabilities of all classes.
        tokens: the U labels.
        blank: class id of blank.

    Without any alignment, as of too few frames, the log P is −inf and the frames mean nothing.
    """
    states_P = np.full(2 * len(tokens) + 1, blank)
    states_P[1::2] = tokens
    # A label may follow another one at once, unless it is the same.
    leaps_P = np.zeros(len(states_P), bool)
    leaps_P[3::2] = states_P[3::2] != states_P[1:-2:2]
    emit_TP = logp_TV[:, states_P]
    score_P = np.full(len(states_P), -np.inf)
    score_P[:2] = emit_TP[0, :2]
    steps_TP = np.zeros(emit_TP.shape, np.int64)
    for t in range(1, len(emit_TP)):
        ways_3P = np.full((3, len(states_P)), -np.inf)
        ways_3P[0] = score_P
        ways_3P[1, 1:] = score_P[:-1]
        ways_3P[2, 2:] = np.where(leaps_P[2:], score_P[:-2], -np.inf)
        steps_TP[t] = ways_3P.argmax(axis=0)
        score_P = ways_3P.max(axis=0) + emit_TP[t]
    last = len(states_P) - 1
    if len(states_P) > 1 and score_P[-2] > score_P[-1]:
        last -= 1
    return _first_frames(steps_TP, last), float(score_P[last])


def _first_frames(steps_TP: np.ndarray, state: int) -> np.ndarray:
    """Walk back from the last frame's state."""
    frames_U = np.zeros(steps_TP.shape[1] // 2, np.int64)
    for t in range(len(steps_TP) - 1, -1, -1):
        if state % 2:
            frames_U[state // 2] = t
        state -= int(steps_TP[t, state])
    return frames_U


def ctc_greedy(logp_TV: np.ndarray, blank: int) -> list[tuple[int, int]]:
    """What CTC says by itself: first frame and label of each run of a class that is not blank."""
    return ctc_runs(logp_TV.argmax(axis=1), blank)


def ctc_runs(best_T: np.ndarray, blank: int) -> list[tuple[int, int]]:
    """First frame and label of each run, given the best class of each frame."""
    starts_T = np.flatnonzero(np.diff(best_T, prepend=best_T[:1] - 1))
    return [(int(t), int(best_T[t])) for t in starts_T if best_T[t] != blank]
