"""A penalty on confident nodes of a transducer's lattice: regularisation without a teacher.

What a teacher does to a student is in part that its posteriors are less certain than transcripts
are. A penalty on certainty does that part alone (Pereyra et al., "Regularizing neural networks by
penalizing confident output distributions", arXiv 1701.06548), and so is the control of
distillation over the lattice. It is about the same classes as that, blank ∅, next label y and the
rest r (``kdcache.loss.lattice``):

    L = Σ_{t<T, u≤U} ( ln C_u − H(p(∅|t,u), p(y|t,u), p(r|t,u)) ),   C_u = 3, and 2 in column U,

the divergence of p from the distribution that knows nothing. It is never negative.

Shapes: B batch, T encoder frames, U labels (a node axis has U+1 entries), S columns of a frame's
window, V vocabulary with blank, K kept class ids, C = 3+K classes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from kdcache.lattice import node_classes, node_mask, transducer_nll
from kdcache.lattice.reduction import Reduction, reduce_utterances
from kdcache.loss.normalise import LatticeNormalise, normalise_lattice

if TYPE_CHECKING:
    from torch import Tensor

    from kdcache.lattice import Logits


def confidence_penalty(
    logits_BTUV: Logits,
    labels_BU: Tensor,
    frames_B: Tensor,
    label_lengths_B: Tensor,
    blank: int,
    reduction: Reduction = "mean",
    normalise: LatticeNormalise = "none",
) -> Tensor:
    """How far a lattice's nodes are from knowing nothing, in nats.

    Args:
        logits_BTUV: (B, T, U+1, V), any floating dtype, or what they are made of.
        labels_BU: int64, (B, ≥ U); what lies beyond a length is ignored.
        frames_B: T ≥ 1 of each utterance, int64.
        label_lengths_B: U ≥ 0 of each utterance, int64.
        blank: class id of blank.
        reduction: ``none`` for (B,), ``sum`` or ``mean`` over utterances.
        normalise: nats per utterance (``none``), per label or per node.

    Returns:
        float64 for float64 logits, else float32. The gradient is zero in padding; NaN in a real
        node makes its utterance NaN.

    Raises:
        InputError: shapes, lengths or class ids do not fit.
        ConfigError: ``reduction`` or ``normalise`` is unknown.
    """
    logp_BTU3 = node_classes(logits_BTUV, labels_BU, blank, frames_B, label_lengths_B)
    loss_B = confidence_at_nodes(logp_BTU3, frames_B, label_lengths_B + 1)
    nodes_B = frames_B * (label_lengths_B + 1)
    loss_B = normalise_lattice(loss_B, label_lengths_B, nodes_B, normalise)
    return reduce_utterances(loss_B, reduction)


def rnnt_and_confidence(
    logits_BTUV: Logits,
    labels_BU: Tensor,
    frames_B: Tensor,
    label_lengths_B: Tensor,
    blank: int,
) -> tuple[Tensor, Tensor]:
    """RNN-T loss and penalty, (B,) each, from one pass over the vocabulary.

    Arguments and errors are those of :func:`confidence_penalty`.
    """
    logp_BTU3 = node_classes(logits_BTUV, labels_BU, blank, frames_B, label_lengths_B)
    arcs = logp_BTU3[..., 0], logp_BTU3[..., 1]
    rnnt_B = transducer_nll(*arcs, frames_B, label_lengths_B, "none")
    return rnnt_B, confidence_at_nodes(logp_BTU3, frames_B, label_lengths_B + 1)


def confidence_at_nodes(logp_BTSC: Tensor, frames_B: Tensor, widths_B: Tensor) -> Tensor:
    """The penalty summed over nodes, (B,).

    Args:
        logp_BTSC: blank, label, K more, rest of each node; the K count as rest. −inf where a
            node has no label.
        frames_B: T of each utterance.
        widths_B: columns of each utterance's windows.
    """
    real_BTS = node_mask(frames_B, widths_B - 1, *logp_BTSC.shape[1:3])
    logp_BTS3 = _joined(logp_BTSC)
    # A class that is not there has no share in the entropy, nor in the gradient.
    entropy_BTS = -(logp_BTS3.exp() * logp_BTS3.masked_fill(logp_BTS3.isneginf(), 0.0)).sum(-1)
    unlabelled_BTS = logp_BTS3[..., 1].isneginf().to(logp_BTS3.dtype)
    most_BTS = math.log(3) - math.log(3 / 2) * unlabelled_BTS
    return (most_BTS - entropy_BTS).masked_fill(~real_BTS, 0.0).sum((1, 2))


def _joined(logp_BTSC: Tensor) -> Tensor:
    """The same with all but blank and label as one class: (B, T, S, 3)."""
    if logp_BTSC.shape[-1] == 3:
        return logp_BTSC
    rest_BTS1 = logp_BTSC[..., 2:].logsumexp(-1, keepdim=True)
    return torch.cat([logp_BTSC[..., :2], rest_BTS1], -1)
