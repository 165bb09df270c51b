"""Mean, 99th percentile and maximum of many values in little memory.

Values are counted in bins whose edges are 1 % apart, so that a percentile of any number of
values is known within 1 %; mean and maximum are exact.

Shapes: N values.
"""

from __future__ import annotations

import numpy as np

PERCENTILE = 99
_SMALLEST, _RATIO, _BINS = 1e-12, 1.01, 4096


class Tally:
    """Adds up finite values that are at least 0, and counts those that are infinite."""

    def __init__(self) -> None:
        self.count = self.infinite = 0
        self.largest = 0.0
        self._sum = 0.0
        self._bins = np.zeros(_BINS, np.int64)

    def add(self, values_N: np.ndarray) -> None:
        """Take values into account."""
        finite_N = values_N[np.isfinite(values_N)]
        self.count += len(finite_N)
        self.infinite += len(values_N) - len(finite_N)
        self.largest = max(self.largest, float(finite_N.max(initial=0.0)))
        self._sum += float(finite_N.sum())
        scaled_N = np.log(finite_N.clip(min=_SMALLEST) / _SMALLEST) / np.log(_RATIO)
        bins_N = np.ceil(scaled_N).astype(np.int64).clip(max=_BINS - 1)
        self._bins += np.bincount(bins_N, minlength=_BINS)

    @property
    def mean(self) -> float | None:
        """Of the finite values; ``None`` where there is none."""
        return self._sum / self.count if self.count else None

    @property
    def percentile(self) -> float | None:
        """The 99th, no less than it is and at most 1 % more; 0 up to 1e-12."""
        if not self.count:
            return None
        wanted = int(np.ceil(self.count * PERCENTILE / 100))
        found = int(np.searchsorted(self._bins.cumsum(), wanted))
        return min(_SMALLEST * _RATIO**found, self.largest) if found else 0.0
