"""Several caches of one corpus that take one another's place in the course of training.

A teacher's own training can be replayed to a student when the teacher was asked at several of its
checkpoints: each of them is a cache, and from a given optimiser step on the next one teaches. Order
and padding of the utterances depend on the corpus alone, so that they are as if there had been but
one cache; which cache a step reads depends on the step's number alone.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from kdcache.errors import ConfigError
from kdcache.types import fingerprint_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcache.batch import Batch
    from kdcache.stream.source import Example, Source


class ReplaySource:
    """Sources by the step from which each is read.

    As a source itself it is the first of them; :meth:`at` gives that of a step.

    Args:
        parts: steps, growing from 0, and sources of the same utterances.

    Raises:
        ConfigError: steps that do not grow from 0, or sources of other utterances or frames.
    """

    def __init__(self, parts: Sequence[tuple[int, Source]]) -> None:
        self._steps = [step for step, _ in parts]
        self._sources = [source for _, source in parts]
        _check_steps(self._steps)
        first = self._sources[0]
        for step, source in parts[1:]:
            _check_alike(first, source, step)
        self.durations, self.frame_shift = first.durations, first.frame_shift

    @property
    def snapshot(self) -> str:
        """Digest of all of them, and of the steps."""
        found = [source.snapshot for source in self._sources]
        return fingerprint_of([list(pair) for pair in zip(self._steps, found, strict=True)])

    def at(self, step: int) -> Source:
        """The source that a step reads, from 0 on, counted from the beginning of training."""
        return self._sources[bisect_right(self._steps, step) - 1]

    def load(self, row: int) -> Example:
        """A row of the first source."""
        return self._sources[0].load(row)

    def load_batch(self, rows: Sequence[int]) -> Batch:
        """Rows of the first source."""
        return self._sources[0].load_batch(rows)


def _check_steps(steps: Sequence[int]) -> None:
    if not steps or steps[0] != 0 or any(a >= b for a, b in pairwise(steps)):
        raise ConfigError(
            f"Caches are replayed from the steps {list(steps)}; expected steps that grow from 0."
        )


def _check_alike(first: Source, other: Source, step: int) -> None:
    """The order rests on durations, the loss on frames."""
    what = f"The cache that is replayed from step {step}"
    if first.frame_shift != other.frame_shift:
        raise ConfigError(
            f"{what} has a frame every {other.frame_shift} s, the first one every "
            f"{first.frame_shift} s; expected teachers whose frames are alike."
        )
    if not np.array_equal(first.durations, other.durations):
        raise ConfigError(
            f"{what} holds other utterances than the first ({len(other.durations)} and "
            f"{len(first.durations)}); extract both from the same manifest, to the end."
        )
