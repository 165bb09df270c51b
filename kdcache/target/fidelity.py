"""What packing lost: the teacher's posteriors against the decoded ones, in nats.

Shapes: X any leading axes, C kept classes with rest.
"""

from __future__ import annotations

import numpy as np

from kdcache.codec.divergence import divergence


def posterior_losses(
    logp_XC: np.ndarray, decoded_XC: np.ndarray, spread_X: np.ndarray
) -> dict[str, np.ndarray]:
    """Divergence of each row, float64 (X).

    Args:
        logp_XC: the teacher's log-probabilities of the kept classes and rest.
        decoded_XC: the decoded ones.
        spread_X: what spreading the rest adds, evenly (``kdcache.target.collapse``) or by a
            model (``kdcache.target.tail``).

    Returns:
        ``kl`` over the kept classes, ``kl_full`` over the whole vocabulary.
    """
    kl_X = divergence(logp_XC, decoded_XC)
    return {"kl": kl_X, "kl_full": kl_X + spread_X}


def fidelity_of(losses: dict[str, np.ndarray]) -> dict[str, float]:
    """Mean and largest loss over the rows: ``<loss>_mean``, ``<loss>_max``."""
    measures = {}
    for name, loss_X in losses.items():
        measures[f"{name}_mean"] = float(loss_X.mean())
        measures[f"{name}_max"] = float(loss_X.max())
    return measures


def sampling_losses(logp_XC: np.ndarray, logq_XC: np.ndarray) -> dict[str, np.ndarray]:
    """How far draws are from what they were drawn from.

    The divergence of the teacher from a few draws is infinite, so it is the other way round:
    KL(draws ‖ teacher), about (distinct classes − 1) / 2N nats for N draws without bias.

    Args:
        logp_XC: decoded shares of the drawn classes.
        logq_XC: the teacher's log-probabilities of the same.

    Returns:
        ``kl_sampled`` of each row, float64 (X).
    """
    p_XC = np.exp(logp_XC.astype(np.float64))
    ratio_XC = np.where(p_XC > 0, logp_XC, 0.0) - np.where(p_XC > 0, logq_XC, 0.0)
    return {"kl_sampled": (p_XC * ratio_XC).sum(-1)}


def vector_fidelity(values_TD: np.ndarray, decoded_TD: np.ndarray) -> dict[str, float]:
    """Mean and largest absolute error, in the vector's unit."""
    error_TD = np.abs(values_TD.astype(np.float64) - decoded_TD)
    return {"error_mean": float(error_TD.mean()), "error_max": float(error_TD.max())}


def relative_error(values_TD: np.ndarray, decoded_TD: np.ndarray) -> float:
    """Squared error ÷ sum of squares: of what codebooks leave; 0 where all values are 0."""
    values_TD = values_TD.astype(np.float64)
    squares = float(np.square(values_TD).sum())
    return float(np.square(values_TD - decoded_TD).sum()) / squares if squares else 0.0
