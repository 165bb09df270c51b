"""How far the best paths of two caches through one utterance are apart.

Of a lattice a path says the labels of the transcript, and two paths differ in when. Of an
encoder's posteriors by CTC, and of lists of hypotheses, they differ in what is said: told as the
fewest labels to insert, delete or replace (Levenshtein 1966).

Shapes: T encoder frames, U labels of A's sequence, W of B's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kdcache.codec import HypothesesRecord, LatticeRecord, PosteriorRecord
from kdcache.inspect.comparison import BestPaths
from kdcache.inspect.divergence import likeliest
from kdcache.inspect.paths import best_path, ctc_runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcache.codec import Record


def best_paths(
    ours: Record, theirs: Record, blank: int | None, frame_shift: float
) -> BestPaths | None:
    """Compare the best paths of two records of one utterance and target.

    Args:
        ours, theirs: of A and of B, of one kind, and of the same T and U.
        blank: class id of CTC's blank; ``None`` where posteriors are not an encoder's, and say
            no sequence of their own.
        frame_shift: seconds between two encoder frames.

    Returns:
        ``None`` where one side has no best path.
    """
    if isinstance(ours, LatticeRecord) and isinstance(theirs, LatticeRecord):
        return _in_time(ours, theirs, frame_shift)
    said = [_said(record, blank) for record in (ours, theirs)]
    if said[0] is None or said[1] is None:
        return None
    differ = edits(said[0], said[1])
    return BestPaths(1, int(differ > 0), len(said[0]), differ)


def edits(ours_U: Sequence[int], theirs_W: Sequence[int]) -> int:
    """The fewest labels to insert, delete or replace to make one sequence the other."""
    others_W, columns = np.asarray(theirs_W, np.int64), np.arange(len(theirs_W) + 1)
    costs = columns  # of making each beginning of theirs from none of ours
    for label in ours_U:
        kept = costs[:-1] + (others_W != label)
        costs = np.concatenate([[costs[0] + 1], np.minimum(costs[1:] + 1, kept)])
        costs = np.minimum.accumulate(costs - columns) + columns  # insertions, left to right
    return int(costs[-1])


def _in_time(ours: LatticeRecord, theirs: LatticeRecord, frame_shift: float) -> BestPaths | None:
    """When each label is said; ``None`` where a lattice has no path."""
    (ours_U, log_p), (theirs_U, other_log_p) = best_path(ours), best_path(theirs)
    if not np.isfinite([log_p, other_log_p]).all():
        return None
    moved_U = np.abs(ours_U - theirs_U)
    differ = int((moved_U > 0).sum())
    seconds = float(moved_U.sum()) * frame_shift
    return BestPaths(1, int(differ > 0), len(moved_U), differ, seconds)


def _said(record: Record, blank: int | None) -> list[int] | None:
    """The labels of a record's own words; ``None`` where it has none."""
    if isinstance(record, HypothesesRecord):
        best: list[np.ndarray] = record.sequences()[:1]
        return best[0].tolist() if best else None
    if isinstance(record, PosteriorRecord) and blank is not None:
        return [label for _, label in ctc_runs(likeliest(record), blank) if label >= 0]
    return None
