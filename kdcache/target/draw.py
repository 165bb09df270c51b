"""Random draws from posteriors: few classes that are right on average.

N draws from a row's distribution q, with replacement, give counts c_v whose expectation is
N·q_v: learning from c/N is learning from q, with noise and without bias, where the likeliest
classes alone teach a student too sharp (Anshumann et al., *Sparse Logit Sampling*, arXiv
2503.16870). A confident frame needs one class.

Draws depend on the target, the utterance's id and the probabilities, and on nothing else.

Shapes: R rows, V vocabulary, S draws a row, K distinct classes drawn at most, D distinct pairs
of row and class.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from kdcache.codec.records import PosteriorRecord

if TYPE_CHECKING:
    from torch import Tensor


def generator_for(kind: str, utterance: str) -> np.random.Generator:
    """The random numbers of one utterance's target; the same on every machine."""
    digest = hashlib.sha256(f"{kind}\n{utterance}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))


def draw_classes(logp_RV: Tensor, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Draw from each row: int64 class ids (R, S).

    Args:
        logp_RV: normalised.
        samples: S.
        rng: of which R·S numbers are taken, row by row.
    """
    mass_RV = logp_RV.double().exp().cumsum(-1).cpu().numpy()
    mass_RV /= mass_RV[:, -1:]
    rows, vocabulary = mass_RV.shape
    # One sorted list for all rows: row r takes up the numbers from r to r + 1.
    steps = (mass_RV + np.arange(rows)[:, None]).reshape(-1)
    wanted_RS = rng.random((rows, samples)) + np.arange(rows)[:, None]
    found_RS = np.searchsorted(steps, wanted_RS.reshape(-1), side="right").reshape(rows, samples)
    ids_RS: np.ndarray = found_RS - np.arange(rows)[:, None] * vocabulary
    return ids_RS.clip(0, vocabulary - 1)


def record_of_draws(ids_RS: np.ndarray, logp_RS: np.ndarray) -> tuple[PosteriorRecord, np.ndarray]:
    """Classes by decreasing count with log(count / S); nothing is left for the rest.

    Args:
        ids_RS: as from :func:`draw_classes`.
        logp_RS: float32, the log-probability of each draw's class.

    Returns:
        The record, and the log-probabilities of the classes in its slots, float32 (R, K+1).
    """
    rows, samples = ids_RS.shape
    base = int(ids_RS.max(initial=0)) + 1
    pairs_RS = ids_RS + np.arange(rows)[:, None] * base
    pairs_D, at_D, counts_D = np.unique(pairs_RS, return_index=True, return_counts=True)
    order_D = np.lexsort((pairs_D, -counts_D, pairs_D // base))
    pairs_D, at_D, counts_D = pairs_D[order_D], at_D[order_D], counts_D[order_D]
    row_D = pairs_D // base
    classes_R = np.bincount(row_D, minlength=rows)
    column_D = np.arange(len(row_D)) - (np.cumsum(classes_R) - classes_R)[row_D]
    kept = int(classes_R.max(initial=0))
    logp_RC, logq_RC = np.full((2, rows, kept + 1), -np.inf, np.float32)
    ids_RK = np.full((rows, kept), -1, np.int32)
    logp_RC[row_D, column_D] = np.log(counts_D / samples)
    logq_RC[row_D, column_D] = logp_RS.reshape(-1)[at_D]
    ids_RK[row_D, column_D] = pairs_D % base
    return PosteriorRecord(logp_RC, ids_RK), logq_RC
