"""Rows of different lengths as lists, and how they come into arrays of one width.

A batch is as wide as the widest row of any of its utterances, which may be all of a vocabulary.
So rows stay lists until that width is known, and are written once, where they are to stay.

Shapes: N frames or tokens, K kept classes at most, C = K+1 with rest, M kept classes of all rows
but the likeliest of each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from kdcache.codec.tail import TailModel


class Unpadded(NamedTuple):
    """Posteriors of an utterance, each row as many classes as it keeps.

    Attributes:
        count_N: classes of each row, 0 to K.
        first_N: id of the likeliest; means nothing where there is none.
        lead_N, rest_N: float64 log-probabilities of the likeliest and of the rest.
        row_M: of the other classes, row by row, each row's by decreasing probability.
        id_M: their ids.
        logp_M: float32, their log-probabilities.
        tail: how the rest lies among the classes that are left.
    """

    count_N: np.ndarray
    first_N: np.ndarray
    lead_N: np.ndarray
    rest_N: np.ndarray
    row_M: np.ndarray
    id_M: np.ndarray
    logp_M: np.ndarray
    tail: TailModel | None

    @property
    def kept(self) -> int:
        """K: classes of the widest row."""
        return int(self.count_N.max(initial=0))

    def write(self, logp_NC: np.ndarray, ids_NK: np.ndarray) -> None:
        """Set all of two C-contiguous arrays, at least ``kept`` wide, to the rows, padded.

        Args:
            logp_NC: float32; slots that a row does not use become −inf.
            ids_NK: of any signed integers; slots that a row does not use become −1.
        """
        logp_NC.fill(-np.inf)
        ids_NK.fill(-1)
        logp_NC[:, -1] = self.rest_N
        if not self.kept:
            return
        logp_NC[:, 0] = self.lead_N
        ids_NK[:, 0] = np.where(self.count_N > 0, self.first_N, -1)
        place_M = self._places(ids_NK.shape[1])
        ids_NK.reshape(-1)[place_M] = self.id_M.astype(ids_NK.dtype, copy=False)
        place_M += self.row_M
        logp_NC.reshape(-1)[place_M] = self.logp_M

    def _places(self, kept: int) -> np.ndarray:
        """Where the other classes go in rows of ``kept`` that follow one another."""
        more_N = np.maximum(self.count_N - 1, 0)
        # Where the second class of each row goes, less how many come before it in the list.
        place_N = np.arange(len(more_N)) * kept + 1 + more_N - np.cumsum(more_N)
        place_M = np.repeat(place_N, more_N)
        place_M += np.arange(len(place_M))
        return place_M
