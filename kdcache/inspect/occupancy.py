"""How likely a teacher's paths come through each node of a cached lattice: numpy alone.

The posterior of a node is γ[t, u] = α[t, u] β[t, u] / P(y | x), with α the sum over all ways into
it and β over all ways from it to the end (Graves 2012, arXiv 1211.3711, section 2.4). Every path
crosses each diagonal t + u once, so that γ sums to 1 over it.

Shapes: T encoder frames, U labels (a node axis has U+1 entries).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kdcache.inspect.paths import ways_in

if TYPE_CHECKING:
    from kdcache.codec import LatticeRecord


def occupancy(lattice: LatticeRecord) -> np.ndarray:
    """γ of every node: float64 (T, U+1), 0 to 1.

    Of a band it is that of the paths within it, and 0 outside. Where the lattice has no path at
    all, it is 0 everywhere.
    """
    forward_TU, blank_TU, label_TU = ways_in(lattice)
    total = forward_TU[-1, -1] + blank_TU[-1, -1]
    if not np.isfinite(total):
        return np.zeros(forward_TU.shape)
    backward_TU = _ways_out(blank_TU, label_TU)
    gamma_TU: np.ndarray = np.exp(forward_TU + backward_TU - total).clip(max=1.0)
    return gamma_TU


def _ways_out(blank_TU: np.ndarray, label_TU: np.ndarray) -> np.ndarray:
    """Log of the sum over all ways from each node to the end, diagonal by diagonal."""
    frames, columns = blank_TU.shape
    score_TU = np.full((frames, columns), -np.inf)
    score_TU[-1, -1] = blank_TU[-1, -1]
    for diagonal in range(frames + columns - 3, -1, -1):
        u = np.arange(max(0, diagonal - frames + 1), min(columns, diagonal + 1))
        t = diagonal - u
        after, above = np.minimum(t + 1, frames - 1), np.minimum(u + 1, columns - 1)
        waits = np.where(t < frames - 1, blank_TU[t, u] + score_TU[after, u], -np.inf)
        says = np.where(u < columns - 1, label_TU[t, u] + score_TU[t, above], -np.inf)
        score_TU[t, u] = np.logaddexp(waits, says)
    return score_TU
