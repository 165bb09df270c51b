"""Knowledge distillation over the nodes of a transducer's lattice.

"Efficient knowledge distillation for RNN-transducer models" (arXiv 2011.06110): of each node's
posterior only blank ∅, the next label y and the rest r are compared,

    L = Σ_{t<T, u≤U} Σ_{l ∈ {∅, y, r}} q_l ln(q_l / p_l),

here with K more classes beside them (K = 0 is the paper, large K approaches the full KL). In
column u = U there is no label and so one class less. Of a banded target only the band's nodes are
summed. The gradient by the student's logits is
p_l − q_l for a kept class and p_v (1 − q_r / p_r) for one of the rest; it is analytic, and the
vocabulary is read once in each direction (``kdcache.lattice.classes``). Of a student that gives
the factors of its logits, RNN-T loss and KL share one evaluation of its joint network, of which no
more than a block is ever held (``kdcache.lattice.factored``).

Shapes: B batch, T encoder frames, U labels (a node axis has U+1 entries), S columns of a frame's
window, X either of the two, V vocabulary with blank, K kept class ids, C = 3+K classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from kdcache.lattice import node_mask, transducer_nll, transducer_nll_banded
from kdcache.lattice.banded import at_band
from kdcache.lattice.reduction import Reduction, reduce_utterances
from kdcache.loss.classes import Nodes, lattice_classes, parse_target, student_classes
from kdcache.loss.divergence import class_kl
from kdcache.loss.normalise import LatticeNormalise, normalise_lattice

if TYPE_CHECKING:
    from torch import Tensor

    from kdcache.batch import LatticeBatch
    from kdcache.lattice import Logits


class TransducerKDLoss(NamedTuple):
    """The parts are for the log; ``total`` is what to minimise.

    Attributes:
        total: ``rnnt`` + β · ``kl``.
        rnnt: the RNN-T loss.
        kl: the lattice KL.
    """

    total: Tensor
    rnnt: Tensor
    kl: Tensor


def lattice_kl(
    logits_BTXV: Logits,
    target: LatticeBatch,
    labels_BU: Tensor,
    blank: int,
    reduction: Reduction = "mean",
    normalise: LatticeNormalise = "none",
    nodes: Nodes = "lattice",
) -> Tensor:
    """KL of the teacher's collapsed lattice against the student's.

    Args:
        logits_BTXV: the student's, any floating dtype, at the nodes that ``nodes`` says, or what
            they are made of; it may be padded further than the target.
        target: the teacher's classes of each node, and the lengths.
        labels_BU: int64, the labels that both were conditioned on.
        blank: class id of blank.
        reduction: ``none`` for (B,), ``sum`` or ``mean`` over utterances.
        normalise: nats per utterance (``none``), per label or per node that is summed.
        nodes: ``lattice`` for logits (B, T, U+1, V), ``band`` for logits (B, T, S, V) at the
            nodes of the target's band; of factors both are the same.

    Returns:
        float64 for float64 logits, else float32. The gradient is zero in padding. Classes of
        teacher probability 0 contribute nothing; NaN in a real node makes its utterance NaN.

    Raises:
        InputError: student, target and labels do not fit.
        ConfigError: ``reduction``, ``normalise`` or ``nodes`` is unknown.
    """
    logp_BTSC = student_classes(logits_BTXV, target, labels_BU, blank, nodes)
    loss_B = kl_at_nodes(target, logp_BTSC, normalise)
    return reduce_utterances(loss_B, reduction)


def transducer_kd_loss(
    logits_BTXV: Logits,
    target: LatticeBatch,
    labels_BU: Tensor,
    blank: int,
    beta: float,
    reduction: Reduction = "mean",
    normalise: LatticeNormalise = "none",
    nodes: Nodes = "lattice",
) -> TransducerKDLoss:
    """RNN-T loss + β · lattice KL, from one pass over the vocabulary.

    Equal to ``rnnt_loss(…) + beta * lattice_kl(…)`` in value and gradient, at the cost of one
    of them (or to ``rnnt_loss_banded(…) + …``, see ``nodes``); the lengths are the target's.

    Args:
        logits_BTXV: the student's, any floating dtype, at the nodes that ``nodes`` says, or what
            they are made of; it may be padded further than the target.
        target: the teacher's classes of each node, and the lengths.
        labels_BU: int64, the labels that both were conditioned on.
        blank: class id of blank.
        beta: weight of the KL.
        reduction: of all three parts: ``none`` for (B,), ``sum`` or ``mean`` over utterances.
        normalise: of the KL alone: nats per utterance (``none``), per label or per node that is
            summed.
        nodes: ``lattice`` for logits (B, T, U+1, V) and the RNN-T loss over all of them; ``band``
            for logits (B, T, S, V) at the nodes of the target's band and the loss confined to it;
            of factors it says where the RNN-T loss is.

    Raises:
        InputError: student, target and labels do not fit.
        ConfigError: ``reduction``, ``normalise`` or ``nodes`` is unknown.
    """
    rnnt_B, logp_BTSC = rnnt_and_classes(logits_BTXV, target, labels_BU, blank, nodes)
    kl_B = kl_at_nodes(target, logp_BTSC, normalise)
    parts = (rnnt_B + beta * kl_B, rnnt_B, kl_B)
    return TransducerKDLoss(*(reduce_utterances(part_B, reduction) for part_B in parts))


def rnnt_and_classes(
    logits_BTXV: Logits, target: LatticeBatch, labels_BU: Tensor, blank: int, nodes: Nodes
) -> tuple[Tensor, Tensor]:
    """The student's RNN-T loss (B,), and its classes at the target's nodes, (B, T, S, 3+K).

    All losses over a cached lattice are made of these two. Arguments and errors are those of
    :func:`transducer_kd_loss`.
    """
    if nodes == "lattice":
        logp_BTUC = lattice_classes(logits_BTXV, target, labels_BU, blank)
        arcs = logp_BTUC[..., 0], logp_BTUC[..., 1]
        rnnt_B = transducer_nll(*arcs, target.frames_B, target.labels_B, "none")
        if target.starts_BT is None:
            return rnnt_B, logp_BTUC
        return rnnt_B, at_band(logp_BTUC, target.starts_BT, target.logp_BTSC.shape[2])
    logp_BTSC = student_classes(logits_BTXV, target, labels_BU, blank, nodes)
    arcs = logp_BTSC[..., 0], logp_BTSC[..., 1]
    if target.starts_BT is None:
        return transducer_nll(*arcs, target.frames_B, target.labels_B, "none"), logp_BTSC
    band = (target.starts_BT, target.frames_B, target.labels_B)
    return transducer_nll_banded(*arcs, *band, "none"), logp_BTSC


def kl_at_nodes(
    target: LatticeBatch, logp_BTSC: Tensor, normalise: LatticeNormalise = "none"
) -> Tensor:
    """Divergence summed over the target's nodes, in nats, then normalised: (B,)."""
    widths_B = parse_target(target)
    real_BTS = node_mask(target.frames_B, widths_B - 1, *target.logp_BTSC.shape[1:3])
    teacher_BTSC = target.logp_BTSC.masked_fill(~real_BTS[..., None], -torch.inf)
    loss_B = class_kl(teacher_BTSC, logp_BTSC).sum((1, 2))
    nodes_B = target.frames_B * widths_B
    return normalise_lattice(loss_B, target.labels_B, nodes_B, normalise)
