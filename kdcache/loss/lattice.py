"""Knowledge distillation over the nodes of a transducer's lattice.

"Efficient knowledge distillation for RNN-transducer models" (arXiv 2011.06110): of each node's
posterior only blank ∅, the next label y and the rest r are compared,

    L = Σ_{t<T, u≤U} Σ_{l ∈ {∅, y, r}} q_l ln(q_l / p_l),

here with K more classes beside them (K = 0 is the paper, large K approaches the full KL). In
column u = U there is no label and so one class less. The gradient by the student's logits is
p_l − q_l for a kept class and p_v (1 − q_r / p_r) for one of the rest; it is analytic, and the
vocabulary is read once in each direction (``kdcache.lattice.classes``).

Shapes: B batch, T encoder frames, U labels (a node axis has U+1 entries), V vocabulary with
blank, K kept class ids, C = 3+K classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from kdcache.errors import InputError
from kdcache.lattice import class_log_probs, node_ids, node_mask, transducer_nll
from kdcache.lattice.reduction import Reduction, reduce_utterances
from kdcache.loss.divergence import class_kl
from kdcache.loss.normalise import LatticeNormalise, normalise_lattice

if TYPE_CHECKING:
    from torch import Tensor

    from kdcache.batch import LatticeBatch


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
    logits_BTUV: Tensor,
    target: LatticeBatch,
    labels_BU: Tensor,
    blank: int,
    reduction: Reduction = "mean",
    normalise: LatticeNormalise = "none",
) -> Tensor:
    """KL of the teacher's collapsed lattice against the student's.

    Args:
        logits_BTUV: the student's, any floating dtype; it may be padded further than the target.
        target: the teacher's classes of each node, and the lengths.
        labels_BU: int64, the labels that both were conditioned on.
        blank: class id of blank.
        reduction: ``none`` for (B,), ``sum`` or ``mean`` over utterances.
        normalise: nats per utterance (``none``), per label or per node.

    Returns:
        float64 for float64 logits, else float32. The gradient is zero in padding. Classes of
        teacher probability 0 contribute nothing; NaN in a real node makes its utterance NaN.

    Raises:
        InputError: student, target and labels do not fit.
        ConfigError: ``reduction`` or ``normalise`` is unknown.
    """
    logp_BTSC = student_classes(logits_BTUV, target, labels_BU, blank)
    loss_B = _kl_of(target, logp_BTSC, normalise)
    return reduce_utterances(loss_B, reduction)


def transducer_kd_loss(
    logits_BTUV: Tensor,
    target: LatticeBatch,
    labels_BU: Tensor,
    blank: int,
    beta: float,
    reduction: Reduction = "mean",
    normalise: LatticeNormalise = "none",
) -> TransducerKDLoss:
    """RNN-T loss + β · lattice KL, from one pass over the vocabulary.

    Equal to ``rnnt_loss(…) + beta * lattice_kl(…)`` in value and gradient, at the cost of one
    of them; the lengths are the target's.

    Args:
        logits_BTUV: the student's, any floating dtype; it may be padded further than the target.
        target: the teacher's classes of each node, and the lengths.
        labels_BU: int64, the labels that both were conditioned on.
        blank: class id of blank.
        beta: weight of the KL.
        reduction: of all three parts: ``none`` for (B,), ``sum`` or ``mean`` over utterances.
        normalise: of the KL alone: nats per utterance (``none``), per label or per node.

    Raises:
        InputError: student, target and labels do not fit.
        ConfigError: ``reduction`` or ``normalise`` is unknown.
    """
    logp_BTSC = student_classes(logits_BTUV, target, labels_BU, blank)
    arcs = logp_BTSC[..., 0], logp_BTSC[..., 1]
    rnnt_B = transducer_nll(*arcs, target.frames_B, target.labels_B, "none")
    kl_B = _kl_of(target, logp_BTSC, normalise)
    parts = (rnnt_B + beta * kl_B, rnnt_B, kl_B)
    return TransducerKDLoss(*(reduce_utterances(part_B, reduction) for part_B in parts))


def student_classes(
    logits_BTUV: Tensor, target: LatticeBatch, labels_BU: Tensor, blank: int
) -> Tensor:
    """The student's log-probabilities of the classes that the target keeps: (B, T, U+1, 3+K).

    Raises:
        InputError: student, target and labels do not fit.
    """
    _check_target(target)
    shape = torch.Size((*target.logp_BTSC.shape[:3], logits_BTUV.shape[-1]))
    ids_BTSK = node_ids(labels_BU, blank, shape, target.labels_B)
    if target.ids_BTSK.shape[-1]:
        ids_BTSK = torch.cat([ids_BTSK, target.ids_BTSK], -1)
    return class_log_probs(logits_BTUV, ids_BTSK, target.frames_B, target.labels_B)


def _check_target(target: LatticeBatch) -> None:
    classes, ids = target.logp_BTSC.shape, target.ids_BTSK.shape
    if len(classes) != 4 or classes[:3] != ids[:3] or classes[3] != ids[3] + 3:
        raise InputError(
            f"The lattice target has log-probabilities {tuple(classes)} and ids {tuple(ids)}; "
            "expected (batch, frames, labels + 1, K + 3) and (batch, frames, labels + 1, K)."
        )


def _kl_of(target: LatticeBatch, logp_BTSC: Tensor, normalise: LatticeNormalise) -> Tensor:
    """Divergence summed over real nodes, in nats, then normalised: (B,)."""
    frames, columns = target.logp_BTSC.shape[1:3]
    real_BTU = node_mask(target.frames_B, target.labels_B, frames, columns)
    teacher_BTSC = target.logp_BTSC.masked_fill(~real_BTU[..., None], -torch.inf)
    loss_B = class_kl(teacher_BTSC, logp_BTSC).sum((1, 2))
    return normalise_lattice(loss_B, target.frames_B, target.labels_B, normalise)
