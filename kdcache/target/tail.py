"""Estimates how the rest of a teacher's posteriors lies among the classes that are left.

Of all models that do not look at the frame, the mean of what is left loses least: with r the
mass that is left of a row and q its shares,

    Σ r KL(q ‖ m)  is least for  m ∝ Σ r q,

the sum of the rows with what is kept set to zero. ``prior`` takes this sum over all rows;
``top`` over those of one likeliest class, with the prior beside it as if that had been seen in
a few rows more, and only for classes that were seen often enough to tell.

Shapes: N rows, V vocabulary, R rows of weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from kdcache.codec.tail import TailModel

if TYPE_CHECKING:
    from torch import Tensor

LEAST_ROWS = 20
"""Rows of a likeliest class from which it gets weights of its own."""

MOST_CLASSES = 255
"""Classes with weights of their own, the most frequent ones."""

_PRIOR_ROWS = 10.0


class TailEstimator:
    """Adds up what rows leave.

    Args:
        kind: ``prior`` or ``top``.
        vocabulary: V.
    """

    def __init__(self, kind: str, vocabulary: int) -> None:
        self._kind = kind
        self._prior_V = np.zeros(vocabulary)
        self._left: dict[int, np.ndarray] = {}
        self._rows: dict[int, int] = {}

    def add(self, remaining_NV: Tensor, likeliest_N: Tensor) -> None:
        """Take rows into account.

        Args:
            remaining_NV: log-probabilities, −inf for the classes that are kept.
            likeliest_N: each row's likeliest class.
        """
        left_NV = remaining_NV.double().exp().cpu().numpy()
        self._prior_V += left_NV.sum(0)
        if self._kind != "top":
            return
        likeliest = likeliest_N.cpu().numpy()
        classes, counts = np.unique(likeliest, return_counts=True)
        for class_id, count in zip(classes.tolist(), counts.tolist(), strict=True):
            sum_V = left_NV[likeliest == class_id].sum(0)
            self._left[class_id] = self._left.get(class_id, 0) + sum_V
            self._rows[class_id] = self._rows.get(class_id, 0) + count

    def model(self) -> TailModel:
        """The model of what was added; even where nothing was left."""
        own = sorted(
            (c for c, rows in self._rows.items() if rows >= LEAST_ROWS),
            key=lambda c: (-self._rows[c], c),
        )[:MOST_CLASSES]
        row_V = np.zeros(len(self._prior_V), np.int64)
        row_V[own] = np.arange(1, len(own) + 1)
        total = self._prior_V.sum()
        prior_V = self._prior_V / total if total else np.ones_like(self._prior_V)
        weights = [prior_V, *(self._weights(class_id, prior_V) for class_id in own)]
        return TailModel.from_weights(np.stack(weights), row_V, self._kind)

    def _weights(self, class_id: int, prior_V: np.ndarray) -> np.ndarray:
        left_V = self._left[class_id]
        of_prior = _PRIOR_ROWS * left_V.sum() / self._rows[class_id]
        weights_V: np.ndarray = left_V + of_prior * prior_V
        return weights_V if weights_V.any() else prior_V


def log_weights(tail: TailModel, likeliest_N: Tensor) -> Tensor:
    """float32 (N, V) logarithms of the weights for rows of these likeliest classes."""
    rows_N = tail.rows_of(likeliest_N.cpu().numpy())
    return torch.from_numpy(tail.log_weights[rows_N]).to(likeliest_N.device)


def unlikeness(remaining_NV: Tensor, kept_NV: Tensor, rest_N: Tensor, logw_NV: Tensor) -> Tensor:
    """r · KL(q given left ‖ the model's shares) = Σ q (ln q − ln m) − r ln r + r ln Σ m, in nats.

    Args:
        remaining_NV: log-probabilities, −inf for the classes that are kept.
        kept_NV: which are; those of probability 0 that are not take a share all the same.
        rest_N: logarithm of what is left, r.
        logw_NV: logarithms of the weights m.

    Returns:
        float32 (N,), at least 0.
    """
    q_NV, mass_N = remaining_NV.double().exp(), rest_N.double().exp()
    ratio_NV = (remaining_NV.double() - logw_NV).masked_fill(q_NV == 0, 0.0)
    weight_N = logw_NV.double().masked_fill(kept_NV, -torch.inf).logsumexp(-1)
    shared_N = (mass_N * weight_N).masked_fill(mass_N == 0, 0.0)
    loss_N = (q_NV * ratio_NV).sum(-1) + torch.special.entr(mass_N) + shared_N
    bounded_N: Tensor = loss_N.clamp(min=0.0).float()
    return bounded_N
