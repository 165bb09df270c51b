"""Distillation of a teacher's alignments, from the blanks and labels of its cached lattice.

A lattice with arcs of log-probability s gives each alignment a of the labels the posterior
P(a | x, y) = exp(Σ_{arcs of a} s) / Z, where ln Z = log P(y | x). With γ the teacher's arc
occupancies (``kdcache.lattice.arc_occupancy``) the divergence of these posteriors is exactly

    KL(P_T ‖ P_S) = Σ_arcs γ^T (s^T − s^S) − ln Z_T + ln Z_S

whose gradient by the student's arc is γ^S − γ^T. It says when labels are to be emitted, and
nothing of how probable they are.

*One-best-path distillation* compares the nodes of the teacher's most probable alignment alone, by
the classes that its lattice keeps: T + U nodes instead of T·(U+1), those that decoding visits.

Shapes: B batch, T encoder frames, U labels (a node axis has U+1 entries), S columns of a frame's
window, C = 3+K classes of a node.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from kdcache.lattice import arc_occupancy, best_path, forward_backward, node_mask
from kdcache.lattice.banded import at_band, over_lattice
from kdcache.lattice.reduction import Reduction, reduce_utterances
from kdcache.loss.classes import Nodes, parse_target, student_classes
from kdcache.loss.divergence import class_kl
from kdcache.loss.lattice import rnnt_and_classes

if TYPE_CHECKING:
    from torch import Tensor

    from kdcache.batch import LatticeBatch
    from kdcache.lattice import Logits


def alignment_kl(
    logits_BTXV: Logits,
    target: LatticeBatch,
    labels_BU: Tensor,
    blank: int,
    reduction: Reduction = "mean",
    nodes: Nodes = "lattice",
) -> Tensor:
    """Divergence of the teacher's alignments from the student's, in nats per utterance.

    Args:
        logits_BTXV: the student's; see :func:`kdcache.loss.transducer_kd_loss`.
        target: the teacher's lattice, or a band of it, beyond which it has no alignments.
        labels_BU: int64, the labels that both were conditioned on.
        blank: class id of blank.
        reduction: ``none`` for (B,), ``sum`` or ``mean`` over utterances.
        nodes: over which alignments the student's posterior is: all, or those in the band.

    Returns:
        Never below 0 but for rounding. An utterance that the teacher cannot align has loss and
        gradient 0.

    Raises:
        InputError: student, target and labels do not fit.
        ConfigError: ``reduction`` or ``nodes`` is unknown.
    """
    rnnt_B, logp_BTSC = rnnt_and_classes(logits_BTXV, target, labels_BU, blank, nodes)
    return reduce_utterances(alignment_kl_at_nodes(target, logp_BTSC, rnnt_B), reduction)


def best_path_kl(
    logits_BTXV: Logits,
    target: LatticeBatch,
    labels_BU: Tensor,
    blank: int,
    reduction: Reduction = "mean",
    nodes: Nodes = "lattice",
) -> Tensor:
    """Divergence at the nodes of the teacher's most probable alignment, in nats per utterance.

    Args and errors are those of :func:`kdcache.loss.lattice_kl`, of whose nodes these are some.
    Of equally probable alignments the one that emits earlier is taken.
    """
    logp_BTSC = student_classes(logits_BTXV, target, labels_BU, blank, nodes)
    return reduce_utterances(best_path_kl_at_nodes(target, logp_BTSC), reduction)


def alignment_kl_at_nodes(target: LatticeBatch, logp_BTSC: Tensor, rnnt_B: Tensor) -> Tensor:
    """The same from what a student's lattice comes to: (B,).

    Args:
        target: the teacher's.
        logp_BTSC: the student's classes at the target's nodes.
        rnnt_B: its RNN-T loss, over the alignments that its posterior is over.
    """
    arcs = _teacher_arcs(target)
    lengths = (target.frames_B, target.labels_B)
    found = forward_backward(*arcs, *lengths)
    possible_B = found.log_likelihood_B.isfinite()
    expected_B = torch.zeros_like(rnnt_B)
    for kind, gamma_BTU in enumerate(arc_occupancy(*arcs, *lengths, found)):
        gamma_BTS = _at_nodes(gamma_BTU, target)
        used_BTS = _real_nodes(target) & (gamma_BTS > 0)
        gap_BTS = _patched(target)[..., kind] - logp_BTSC[..., kind]
        weight_BTS = torch.where(used_BTS, gamma_BTS, 0.0).to(gap_BTS.dtype)
        expected_B = expected_B + (weight_BTS * gap_BTS.masked_fill(~used_BTS, 0.0)).sum((1, 2))
    kl_B = expected_B - found.log_likelihood_B.to(rnnt_B.dtype) - rnnt_B
    return torch.where(possible_B, kl_B, 0.0 * rnnt_B)


def best_path_kl_at_nodes(target: LatticeBatch, logp_BTSC: Tensor) -> Tensor:
    """The same from the student's classes at the target's nodes: (B,)."""
    on_path_BTS = _at_nodes(_path_nodes(target), target) & _real_nodes(target)
    teacher_BTSC = target.logp_BTSC.masked_fill(~on_path_BTS[..., None], -torch.inf)
    return class_kl(teacher_BTSC, logp_BTSC).sum((1, 2))


def _path_nodes(target: LatticeBatch) -> Tensor:
    """Which nodes the best alignment visits: bool (B, T, U+1)."""
    arcs = _teacher_arcs(target)
    found = best_path(*arcs, target.frames_B, target.labels_B)
    frames, columns = arcs[0].shape[1:]
    t_T1 = torch.arange(frames, device=found.frames_BU.device)[:, None]
    u_U = torch.arange(columns, device=t_T1.device)
    emitted_BTU = (found.frames_BU >= 0)[:, None] & (found.frames_BU[:, None] <= t_T1)
    before_BTU = emitted_BTU & (found.frames_BU[:, None] < t_T1)
    first_BT1, last_BT1 = before_BTU.sum(-1)[..., None], emitted_BTU.sum(-1)[..., None]
    return (u_U >= first_BT1) & (u_U <= last_BT1)


def _teacher_arcs(target: LatticeBatch) -> tuple[Tensor, Tensor]:
    """Log-probabilities of blank and label of all nodes, (B, T, U+1) each; −inf off a band."""
    logp_BTSC = _patched(target)
    outside_BTS = ~_real_nodes(target)
    arcs = (logp_BTSC[..., kind].masked_fill(outside_BTS, -torch.inf) for kind in (0, 1))
    if target.starts_BT is None:
        blank_BTU, label_BTU = arcs
    else:
        place = (target.starts_BT, int(target.labels_B.max()) + 1)
        blank_BTU, label_BTU = (over_lattice(x_BTS, *place) for x_BTS in arcs)
    return blank_BTU, label_BTU


def _patched(target: LatticeBatch) -> Tensor:
    """Its classes; a frame of the student of which it says nothing is passed by a certain blank."""
    silent_BTS = target.logp_BTSC.isneginf().all(-1)
    passed_C = torch.full_like(target.logp_BTSC[0, 0, 0], -torch.inf)
    passed_C[0] = 0.0
    return torch.where(silent_BTS[..., None], passed_C, target.logp_BTSC)


def _real_nodes(target: LatticeBatch) -> Tensor:
    """Which places of windows are nodes: bool (B, T, S)."""
    return node_mask(target.frames_B, parse_target(target) - 1, *target.logp_BTSC.shape[1:3])


def _at_nodes(x_BTU: Tensor, target: LatticeBatch) -> Tensor:
    """What stands at the target's nodes: (B, T, S)."""
    if target.starts_BT is None:
        return x_BTU
    return at_band(x_BTU, target.starts_BT, target.logp_BTSC.shape[2])
