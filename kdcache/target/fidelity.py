"""What packing lost: the teacher's posteriors against the decoded ones, in nats.

Both sides are normalised in float64 first, so that float32 round-off is not taken for loss
(a codec's loss is often a millionth of a nat).

Shapes: X any leading axes, C kept classes with rest.
"""

from __future__ import annotations

import numpy as np


def posterior_fidelity(
    logp_XC: np.ndarray, decoded_XC: np.ndarray, spread_X: np.ndarray
) -> dict[str, float]:
    """Mean and largest divergence over the rows.

    Args:
        logp_XC: the teacher's log-probabilities of the kept classes and rest.
        decoded_XC: the decoded ones.
        spread_X: what spreading the rest adds, evenly (``kdcache.target.collapse``) or by a
            model (``kdcache.target.tail``).

    Returns:
        ``kl_mean``, ``kl_max`` over the kept classes; ``kl_full_mean``, ``kl_full_max`` over
        the whole vocabulary.
    """
    kl_X = divergence(logp_XC, decoded_XC)
    full_X = kl_X + spread_X
    return {
        "kl_mean": float(kl_X.mean()),
        "kl_max": float(kl_X.max()),
        "kl_full_mean": float(full_X.mean()),
        "kl_full_max": float(full_X.max()),
    }


def sampling_fidelity(logp_XC: np.ndarray, logq_XC: np.ndarray) -> dict[str, float]:
    """How far draws are from what they were drawn from.

    The divergence of the teacher from a few draws is infinite, so it is the other way round:
    KL(draws ‖ teacher), about (distinct classes − 1) / 2N nats for N draws without bias.

    Args:
        logp_XC: decoded shares of the drawn classes.
        logq_XC: the teacher's log-probabilities of the same.

    Returns:
        ``kl_sampled_mean``, ``kl_sampled_max``.
    """
    p_XC = np.exp(logp_XC.astype(np.float64))
    ratio_XC = np.where(p_XC > 0, logp_XC, 0.0) - np.where(p_XC > 0, logq_XC, 0.0)
    kl_X = (p_XC * ratio_XC).sum(-1)
    return {"kl_sampled_mean": float(kl_X.mean()), "kl_sampled_max": float(kl_X.max())}


def divergence(logp_XC: np.ndarray, logq_XC: np.ndarray) -> np.ndarray:
    """KL(p ‖ q) of each row in float64: 0 ln 0 = 0, and +inf where q = 0 < p."""
    logp_XC, logq_XC = _normalised(logp_XC), _normalised(logq_XC)
    p_XC = np.exp(logp_XC)
    real_XC = p_XC > 0
    ratio_XC = np.where(real_XC, logp_XC, 0.0) - np.where(real_XC, logq_XC, 0.0)
    kl_X: np.ndarray = (p_XC * ratio_XC).sum(-1).clip(min=0.0)
    return kl_X


def vector_fidelity(values_TD: np.ndarray, decoded_TD: np.ndarray) -> dict[str, float]:
    """Mean and largest absolute error, in the vector's unit."""
    error_TD = np.abs(values_TD.astype(np.float64) - decoded_TD)
    return {"error_mean": float(error_TD.mean()), "error_max": float(error_TD.max())}


def _normalised(logp_XC: np.ndarray) -> np.ndarray:
    logp_XC = logp_XC.astype(np.float64)
    normalised_XC: np.ndarray = logp_XC - np.log(np.exp(logp_XC).sum(-1, keepdims=True))
    return normalised_XC
