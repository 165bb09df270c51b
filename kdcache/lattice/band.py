"""Which columns of each frame to keep: the best band through a lattice.

A trained teacher's alignments run close together: of the U+1 nodes of a frame a few hold all of
the occupancy. A band keeps S neighbouring columns of each frame, from a start s[t] on, such that

    s[0] = 0,    0 ≤ s[t] − s[t−1] ≤ S − 1,    s[T−1] = U + 1 − S.

Neighbouring windows share a column, so a path can pass from each to the next; the first window
holds the first node and the last one the last. Of all such bands the one with the greatest
occupancy Σ_t Σ_{s[t] ≤ u < s[t]+S} γ[t, u] is found exactly, by dynamic programming over starts:

    best[t, s] = mass[t, s] + max_{s−S < r ≤ s} best[t−1, r],

with the window sums of all starts at once and the maximum by doubling: O(T · U · log S), in
numpy, since T short steps over vectors of U are what a GPU does worst. Of equally good bands the
lowest is taken. (The pointwise minimum of two good bands is one too, so there is a lowest.)

Pruned RNN-T (Kuang et al., arXiv 2206.13236) cuts such windows too, from a simpler model's
gradients, frame by frame and then repaired; here they are the teacher's own, once, and optimal.

Shapes: T encoder frames, U labels (a node axis has U+1 entries), S band width, P = U+2−S starts.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from kdcache.errors import ConfigError, InputError

_ROUNDING = 1e-9
"""Share of the occupancy that sums of windows may be wrong by, with much to spare."""


class Band(NamedTuple):
    """A window of columns in each frame.

    Attributes:
        starts_T: int32, first column of each frame's window.
        width: S.
        outside: share of the occupancy that is not in any window, 0 to 1.
    """

    starts_T: np.ndarray
    width: int
    outside: float


@dataclass(frozen=True, slots=True)
class BandRule:
    """How wide a band is.

    Attributes:
        epsilon: greatest share of an utterance's occupancy that may lie outside: the narrowest
            such band is taken. ``None`` takes ``width`` whatever that leaves outside.
        width: S for all utterances; with ``epsilon``, no band is wider. An utterance of so many
            labels a frame that no band of this width leads through gets the narrowest that does.

    Raises:
        ConfigError: a value out of range.
    """

    epsilon: float | None = None
    width: int | None = None

    def __post_init__(self) -> None:
        _check_epsilon(self.epsilon)
        _check_width(self.width)

    @property
    def is_whole(self) -> bool:
        """Whether there is no rule, so that lattices are kept as a whole."""
        return self.epsilon is None and self.width is None

    def choose(self, occupancy_TU: np.ndarray) -> Band:
        """The best band of an utterance.

        Args:
            occupancy_TU: posterior probability of each node, (T, U+1), T ≥ 1, as from
                :func:`kdcache.lattice.node_occupancy`.

        Raises:
            InputError: occupancies that are not finite, negative or all zero, as where the
                labels are impossible.
        """
        occupancy_TU = _parse_occupancy(occupancy_TU)
        frames, columns = occupancy_TU.shape
        most = columns if self.width is None else self.width
        most = min(max(most, least_width(frames, columns - 1)), columns)
        if self.epsilon is None:
            return best_band(occupancy_TU, most)
        return _narrowest(occupancy_TU, self.epsilon, most)


def least_width(frames: int, labels: int) -> int:
    """The narrowest connected band: T frames climb (S − 1) · T columns and need to climb U."""
    return 1 + -(-labels // frames)


def best_band(occupancy_TU: np.ndarray, width: int) -> Band:
    """The band of this width that keeps most; see the head of this file.

    Args:
        occupancy_TU: (T, U+1) finite, not negative, T ≥ 1.
        width: S, from :func:`least_width` to U+1.
    """
    mass_TP = _window_mass(occupancy_TU, width)
    starts_T = _trace(_reach(mass_TP, width), width)
    return Band(starts_T, width, _outside(occupancy_TU, starts_T, width))


def _narrowest(occupancy_TU: np.ndarray, epsilon: float, most: int) -> Band:
    """The narrowest band with at most ``epsilon`` outside, or the one of width ``most``.

    What a band keeps grows with its width: adding the next column to every window (or the one
    before, at the end) keeps it a band. So widths can be bisected, and below the first at which
    windows chosen freely, frame by frame, would keep enough, none needs to be tried.
    """
    frames, columns = occupancy_TU.shape
    needed = (1.0 - epsilon - _ROUNDING) * occupancy_TU.sum()

    def could_do(width: int) -> bool:
        return bool(_window_mass(occupancy_TU, width).max(axis=1).sum() >= needed)

    def does(width: int) -> bool:
        return best_band(occupancy_TU, width).outside <= epsilon

    widths = range(least_width(frames, columns - 1), most)
    first = bisect_left(widths, True, key=could_do)
    # Nearly always the first that could do does.
    if first < len(widths) and not does(widths[first]):
        first = bisect_left(widths, True, lo=first + 1, key=does)
    return best_band(occupancy_TU, widths[first] if first < len(widths) else most)


def _window_mass(occupancy_TU: np.ndarray, width: int) -> np.ndarray:
    """Occupancy of the window at each start: (T, P)."""
    sum_TU = np.zeros((occupancy_TU.shape[0], occupancy_TU.shape[1] + 1))
    np.cumsum(occupancy_TU, axis=1, out=sum_TU[:, 1:])
    mass_TP: np.ndarray = sum_TU[:, width:] - sum_TU[:, :-width]
    return mass_TP


def _reach(mass_TP: np.ndarray, width: int) -> np.ndarray:
    """Greatest mass of windows up to each, −inf where no band leads: (T, S−1+P).

    The first S−1 columns are −inf, so that row t, columns s to s+S−1, are the starts from which
    start s can be reached.
    """
    frames, places = mass_TP.shape
    best = np.full((frames, width - 1 + places), -np.inf)
    best[0, width - 1] = mass_TP[0, 0]
    # Buffers for maxima over 2, 4, 8, … neighbours: the loop makes no arrays.
    spans = [1 << n for n in range(1, width.bit_length())]
    maxima = [np.empty(best.shape[1] - span + 1) for span in spans]
    for t in range(1, frames):
        last, step = best[t - 1], 1
        for widest in maxima:
            np.maximum(last[:-step], last[step:], out=widest)
            last, step = widest, 2 * step
        row = best[t, width - 1 :]
        np.maximum(last[:places], last[width - step :], out=row)
        row += mass_TP[t]
    return best


def _trace(best: np.ndarray, width: int) -> np.ndarray:
    """Starts of the best band, walked back from the last window: int32 (T,)."""
    frames = len(best)
    starts_T = np.empty(frames, np.int32)
    start = best.shape[1] - width
    starts_T[-1] = start
    for t in range(frames - 2, -1, -1):
        # argmax takes the first of equals: the lowest start.
        start += int(best[t, start : start + width].argmax()) - (width - 1)
        starts_T[t] = start
    return starts_T


def _outside(occupancy_TU: np.ndarray, starts_T: np.ndarray, width: int) -> float:
    """Share of the occupancy outside the windows: a sum of what is outside, not 1 − kept."""
    place_TU = np.arange(occupancy_TU.shape[1]) - starts_T[:, None]
    left_TU = np.where((place_TU < 0) | (place_TU >= width), occupancy_TU, 0.0)
    return float(left_TU.sum() / occupancy_TU.sum())


def _parse_occupancy(occupancy_TU: np.ndarray) -> np.ndarray:
    occupancy_TU = np.asarray(occupancy_TU, np.float64)
    if occupancy_TU.ndim != 2 or 0 in occupancy_TU.shape:
        raise InputError(
            f"Occupancies have shape {occupancy_TU.shape}; expected (frames, labels + 1)."
        )
    total = occupancy_TU.sum()
    if not np.isfinite(total) or total <= 0 or occupancy_TU.min() < 0:
        raise InputError(
            "Occupancies are NaN, negative or all zero, so that no band can be chosen by them: "
            "the lattice holds NaN, or gives its labels no probability."
        )
    return occupancy_TU


def _check_epsilon(epsilon: object) -> None:
    if epsilon is None:
        return
    number = isinstance(epsilon, int | float) and not isinstance(epsilon, bool)
    if not number or not 0 <= epsilon < 1:  # type: ignore[operator]
        raise ConfigError(
            f"epsilon is {epsilon!r}; expected the share of the occupancy that may lie outside "
            "the band, at least 0 and below 1, such as 0.001."
        )


def _check_width(width: object) -> None:
    if width is None:
        return
    if isinstance(width, bool) or not isinstance(width, int) or width < 2:
        raise ConfigError(f"width is {width!r}; expected columns of a band, an integer from 2 on.")
