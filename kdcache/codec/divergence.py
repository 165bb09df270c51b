"""Kullback–Leibler divergence between rows of log-probabilities, to the last digit.

Both sides are normalised in float64 first, so that float32 round-off is not taken for loss
(a codec's loss is often a millionth of a nat).

Shapes: X any leading axes, C classes.
"""

from __future__ import annotations

import numpy as np


def divergence(logp_XC: np.ndarray, logq_XC: np.ndarray) -> np.ndarray:
    """KL(p ‖ q) of each row, in nats.

    Args:
        logp_XC, logq_XC: natural log-probabilities, any floating dtype.

    Returns:
        float64 (X). 0 ln 0 = 0, +inf where q = 0 < p, and 0 for a row without any class.
    """
    logp_XC, logq_XC = _normalised(logp_XC), _normalised(logq_XC)
    p_XC = np.exp(logp_XC)
    real_XC = p_XC > 0
    ratio_XC = np.where(real_XC, logp_XC, 0.0) - np.where(real_XC, logq_XC, 0.0)
    kl_X: np.ndarray = (p_XC * ratio_XC).sum(-1).clip(min=0.0)
    return kl_X


def _normalised(logp_XC: np.ndarray) -> np.ndarray:
    logp_XC = logp_XC.astype(np.float64)
    mass_X1 = np.exp(logp_XC).sum(-1, keepdims=True)
    normalised_XC: np.ndarray = logp_XC - np.log(np.where(mass_X1 > 0, mass_X1, 1.0))
    return normalised_XC
