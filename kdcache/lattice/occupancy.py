"""How probable it is, given the labels, that the alignment passes a node or an arc.

Shapes: B batch, T encoder frames, U labels (a node axis has U+1 entries).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from kdcache.lattice.scan import ForwardBackward, real_arcs

if TYPE_CHECKING:
    from torch import Tensor


def node_occupancy(found: ForwardBackward) -> Tensor:
    """Posterior probability that a path passes each node: float64 (B, T, U+1).

    γ[t, u] = exp(α + β − log P(y | x)). Zero in padding. On every anti-diagonal t + u of an
    utterance the occupancies sum to 1, since each path passes it once.
    """
    log_likelihood_B11 = found.log_likelihood_B[:, None, None]
    return (found.alpha_BTU + found.beta_BTU - log_likelihood_B11).exp()


def arc_occupancy(
    blank_BTU: Tensor,
    label_BTU: Tensor,
    frames_B: Tensor,
    label_lengths_B: Tensor,
    found: ForwardBackward,
) -> tuple[Tensor, Tensor]:
    """Posterior probability of each blank arc and of each label arc.

    These are the gradients of log P(y | x) by the log-probabilities of the arcs (Graves 2012,
    eq. 20). At each node the two sum to the node's occupancy.

    Args:
        blank_BTU: log-probability of blank at each node, as :func:`forward_backward` had it.
        label_BTU: log-probability of the next label; column u = U is ignored.
        frames_B: T of each utterance.
        label_lengths_B: U of each utterance.
        found: the result of :func:`forward_backward`.

    Returns:
        Two float64 tensors (B, T, U+1), zero in padding. Where no path is possible at all
        (log-likelihood −inf) an utterance's occupancies are NaN.

    Raises:
        InputError: the lengths do not fit the lattice.
    """
    arcs = real_arcs(blank_BTU, label_BTU, frames_B, label_lengths_B)
    reach_BTU = found.alpha_BTU - found.log_likelihood_B[:, None, None]
    pad = torch.nn.functional.pad
    after_blank_BTU = pad(found.beta_BTU[:, 1:], (0, 0, 0, 1), value=-torch.inf)
    after_label_BTU = pad(found.beta_BTU[:, :, 1:], (0, 1), value=-torch.inf)
    # The last blank leaves the lattice: nothing remains to be explained.
    rows_B = torch.arange(reach_BTU.shape[0], device=reach_BTU.device)
    after_blank_BTU[rows_B, frames_B - 1, label_lengths_B] = 0.0
    return (
        (reach_BTU + arcs.blank_BTU + after_blank_BTU).exp(),
        (reach_BTU + arcs.label_BTU + after_label_BTU).exp(),
    )
