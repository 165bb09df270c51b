"""Two lattices of an utterance at the nodes (t, u) that both keep, as rows of posteriors.

Blank and the next label become classes with an id like any other, so that what one lattice
names and the other leaves in its rest is matched by id.

Shapes: T encoder frames, U labels, S columns of a frame's window, K more classes, N nodes of
both lattices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kdcache.codec import PosteriorRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcache.codec import LatticeRecord


def shared_nodes(
    a: LatticeRecord, b: LatticeRecord, tokens: Sequence[int], blank: int
) -> tuple[PosteriorRecord, PosteriorRecord]:
    """The nodes of the intersection of the windows, frame by frame.

    Args:
        a, b: of the same T and U; each whole or a band.
        tokens: the U labels.
        blank: class id of blank.

    Returns:
        N rows of each, K+2 classes and rest.
    """
    start_a_T1, start_b_T1 = _starts(a)[:, None], _starts(b)[:, None]
    columns_TS = start_a_T1 + np.arange(a.logp_TSC.shape[1])
    in_b_TS = columns_TS - start_b_T1
    frames_N, at_a_N = np.nonzero((in_b_TS >= 0) & (in_b_TS < b.logp_TSC.shape[1]))
    columns_N = columns_TS[frames_N, at_a_N]
    next_N = np.array([*tokens, -1], np.int32)[columns_N]  # no label waits in column U
    at_b_N = in_b_TS[frames_N, at_a_N]
    return (
        _rows(a, frames_N, at_a_N, next_N, blank),
        _rows(b, frames_N, at_b_N, next_N, blank),
    )


def _rows(
    lattice: LatticeRecord, frames_N: np.ndarray, at_N: np.ndarray, next_N: np.ndarray, blank: int
) -> PosteriorRecord:
    special_N2 = np.stack([np.full_like(next_N, blank), next_N], axis=1)
    ids_NK = np.concatenate([special_N2, lattice.ids_TSK[frames_N, at_N]], axis=1)
    return PosteriorRecord(lattice.logp_TSC[frames_N, at_N], ids_NK)


def _starts(lattice: LatticeRecord) -> np.ndarray:
    if lattice.starts_T is None:
        return np.zeros(len(lattice.logp_TSC), np.int64)
    starts_T: np.ndarray = lattice.starts_T.astype(np.int64)
    return starts_T
