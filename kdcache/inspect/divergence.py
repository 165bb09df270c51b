"""How far two decoded posteriors of the same rows are from each other, over all classes.

What a record does not keep lies in its rest, evenly or as its own model says
(``kdcache.codec.tail``), so that each row stands for a distribution of V classes. Where both
rests are even, all classes that neither side keeps have the same probability within a side, and
count as one: the sum runs over the classes that either side keeps. It is exact, not a bound:
the divergence of the shares within the rest is 0 in the chain rule (Cover and Thomas, Elements
of Information Theory, theorem 2.5.3). With a model the sum runs over all V.

Everything is float64, and normalised first, so that round-off is not taken for divergence.

Shapes: N frames, nodes or tokens, V vocabulary, K kept classes (J of the other side), C = K+1
with rest, M classes that are asked for.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from kdcache.errors import DamagedCacheError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kdcache.codec import PosteriorRecord

BUDGET = 2**20
"""Classes of rows that are in memory at once; a single row may have more."""

ABSENT = -1


def divergence(a: PosteriorRecord, b: PosteriorRecord, vocabulary: int) -> np.ndarray:
    """KL(a ‖ b) of each row in nats: float64 (N,), +inf where b rules out what a does not.

    Args:
        a: the reference.
        b: the other, of as many rows.
        vocabulary: V.

    Raises:
        DamagedCacheError: a class id that the vocabulary does not have.
    """
    for record in (a, b):
        _check_ids(record.ids_NK, vocabulary)
    even = a.tail is None and b.tail is None
    width = a.logp_NC.shape[1] + b.logp_NC.shape[1] if even else vocabulary
    measure = _even_divergence if even else _full_divergence
    parts = [
        measure(_rows(a, rows), _rows(b, rows), vocabulary)
        for rows in _blocks(len(a.logp_NC), width)
    ]
    return np.concatenate([np.empty(0), *parts]).clip(min=0.0)


def likeliest(record: PosteriorRecord) -> np.ndarray:
    """Each row's likeliest kept class, of equals the smallest id: int (N,); −1 where none is."""
    logp_NK, ids_NK = record.logp_NC[:, :-1], record.ids_NK
    best_N1 = logp_NK.max(axis=1, keepdims=True, initial=-np.inf)
    candidate_NK = (logp_NK == best_N1) & (ids_NK != ABSENT)
    beyond = np.iinfo(np.int32).max
    found_N = np.where(candidate_NK, ids_NK, beyond).min(axis=1, initial=beyond)
    likeliest_N: np.ndarray = np.where(found_N == beyond, ABSENT, found_N)
    return likeliest_N


def spread(record: PosteriorRecord, vocabulary: int) -> np.ndarray:
    """The distribution that each row stands for: log-probabilities float64 (N, V)."""
    rows = len(record.logp_NC)
    row_N1 = np.arange(rows)[:, None]
    # Slots that are not used go to a class beyond the vocabulary, which is cut off.
    ids_NK = np.where(record.ids_NK == ABSENT, vocabulary, record.ids_NK)
    dense_NV = np.zeros((rows, vocabulary + 1))
    if record.tail is not None:
        first_N = record.ids_NK[:, 0] if ids_NK.shape[1] else np.full(rows, ABSENT)
        dense_NV[:, :vocabulary] = record.tail.log_weights[record.tail.rows_of(first_N)]
    dense_NV[:, vocabulary] = -np.inf
    dense_NV[row_N1, ids_NK] = -np.inf
    dense_NV += record.logp_NC[:, -1:] - _finite(_log_sum(dense_NV))
    dense_NV[row_N1, ids_NK] = record.logp_NC[:, :-1]
    dense_NV = dense_NV[:, :vocabulary]
    normalised_NV: np.ndarray = dense_NV - _finite(_log_sum(dense_NV))
    return normalised_NV


def _full_divergence(a: PosteriorRecord, b: PosteriorRecord, vocabulary: int) -> np.ndarray:
    terms_NV = _terms(spread(a, vocabulary), spread(b, vocabulary))
    kl_N: np.ndarray = terms_NV.sum(-1)
    return kl_N


def _even_divergence(a: PosteriorRecord, b: PosteriorRecord, vocabulary: int) -> np.ndarray:
    """Over a's classes, those of b alone, and the others, which are as likely as each other."""
    a, b = _normalised(a, vocabulary), _normalised(b, vocabulary)
    each_a_N1, each_b_N1 = _each(a, vocabulary), _each(b, vocabulary)
    b_at_NK, _ = _look_up(b, a.ids_NK, each_b_N1, vocabulary)
    _, known_NJ = _look_up(a, b.ids_NK, each_a_N1, vocabulary)
    alone_NJ = (b.ids_NK != ABSENT) & ~known_NJ
    own_NK = _terms(a.logp_NC[:, :-1], b_at_NK)
    other_NJ = np.where(alone_NJ, _terms(each_a_N1, b.logp_NC[:, :-1]), 0.0)
    kept_N = (a.ids_NK != ABSENT).sum(-1) + alone_NJ.sum(-1)
    left_N = (vocabulary - kept_N).clip(min=0)
    rest_N = np.where(left_N > 0, left_N * _terms(each_a_N1, each_b_N1)[:, 0], 0.0)
    kl_N: np.ndarray = own_NK.sum(-1) + other_NJ.sum(-1) + rest_N
    return kl_N


def _look_up(
    record: PosteriorRecord, ids_NM: np.ndarray, each_N1: np.ndarray, vocabulary: int
) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities (N, M) of the classes that are asked for, and which of them are kept."""
    row_N1 = np.arange(len(ids_NM))[:, None] * vocabulary
    used_NK = record.ids_NK != ABSENT
    keys_L, logp_L = (row_N1 + record.ids_NK)[used_NK], record.logp_NC[:, :-1][used_NK]
    order_L = keys_L.argsort(kind="stable")
    keys_L = np.append(keys_L[order_L], np.iinfo(np.int64).max)  # so that it is never empty
    logp_L = np.append(logp_L[order_L], -np.inf)
    wanted_NM = row_N1 + ids_NM
    at_NM = np.searchsorted(keys_L, wanted_NM)
    kept_NM = (keys_L[at_NM] == wanted_NM) & (ids_NM != ABSENT)
    return np.where(kept_NM, logp_L[at_NM], each_N1), kept_NM


def _normalised(record: PosteriorRecord, vocabulary: int) -> PosteriorRecord:
    """In float64; a rest that no class is left for has nothing."""
    used_NK = record.ids_NK != ABSENT
    full_N = used_NK.sum(-1) >= vocabulary
    logp_NC = record.logp_NC.astype(np.float64)
    logp_NC[:, :-1][~used_NK] = -np.inf
    logp_NC[full_N, -1] = -np.inf
    return replace(record, logp_NC=logp_NC - _finite(_log_sum(logp_NC)))


def _each(record: PosteriorRecord, vocabulary: int) -> np.ndarray:
    """Log-probability (N, 1) of any one of the classes that are left."""
    left_N1 = vocabulary - (record.ids_NK != ABSENT).sum(-1, keepdims=True)
    each_N1: np.ndarray = record.logp_NC[:, -1:] - np.log(left_N1.clip(min=1))
    return each_N1


def _terms(logp_X: np.ndarray, logq_X: np.ndarray) -> np.ndarray:
    """p ln(p/q): 0 where p = 0, +inf where q = 0 < p."""
    real_X = np.exp(logp_X) > 0
    ratio_X = np.where(real_X, logp_X, 0.0) - np.where(real_X, logq_X, 0.0)
    terms_X: np.ndarray = np.exp(logp_X) * ratio_X
    return terms_X


def _log_sum(logp_XC: np.ndarray) -> np.ndarray:
    """ln Σ exp over the last axis, which is kept; −inf of a row that has nothing."""
    largest_X1 = _finite(logp_XC.max(-1, keepdims=True))
    sum_X1 = np.exp(logp_XC - largest_X1).sum(-1, keepdims=True)
    logs_X1 = np.log(sum_X1, where=sum_X1 > 0, out=np.full_like(sum_X1, -np.inf))
    total_X1: np.ndarray = logs_X1 + largest_X1
    return total_X1


def _finite(logs_X1: np.ndarray) -> np.ndarray:
    """0 in the place of −inf, which may be subtracted."""
    finite_X1: np.ndarray = np.where(np.isneginf(logs_X1), 0.0, logs_X1)
    return finite_X1


def _rows(record: PosteriorRecord, rows: slice) -> PosteriorRecord:
    return replace(record, logp_NC=record.logp_NC[rows], ids_NK=record.ids_NK[rows])


def _blocks(rows: int, width: int) -> Iterator[slice]:
    step = max(1, BUDGET // width)
    return (slice(start, start + step) for start in range(0, rows, step))


def _check_ids(ids_NK: np.ndarray, vocabulary: int) -> None:
    largest = int(ids_NK.max(initial=ABSENT))
    if largest >= vocabulary:
        raise DamagedCacheError(f"class id {largest} of a vocabulary of {vocabulary} classes")
