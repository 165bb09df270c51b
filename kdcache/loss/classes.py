"""A student's log-probabilities of the classes that a lattice target keeps, at its nodes.

Logits stand either at all nodes of the lattice (B, T, U+1, V), or at those of the target's band
alone (B, T, S, V), for which the joint network need not be evaluated anywhere else. Or they are
not multiplied out at all (``kdcache.lattice.FactoredLogits``): then the joint network is evaluated
where it is needed, block by block. Either way the vocabulary is read once. Of a whole lattice the
band is the lattice.

Shapes: B batch, T encoder frames, U labels (a node axis has U+1 entries), S columns of a frame's
window, V vocabulary with blank, K kept class ids, C = 3+K classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import torch

from kdcache.errors import ConfigError, InputError
from kdcache.lattice import FactoredLogits, node_class_log_probs, node_ids, node_mask
from kdcache.lattice.banded import (
    at_band,
    band_columns,
    band_ids,
    ids_over_lattice,
    parse_band,
)
from kdcache.lattice.reduction import unknown_choice

if TYPE_CHECKING:
    from torch import Tensor

    from kdcache.batch import LatticeBatch
    from kdcache.lattice import Logits

Nodes = Literal["lattice", "band"]
"""Where a student's logits stand: at every node, or at those of the target's band alone. Of what is
not multiplied out: where it is wanted."""


def student_classes(
    logits_BTXV: Logits,
    target: LatticeBatch,
    labels_BU: Tensor,
    blank: int,
    nodes: Nodes = "lattice",
) -> Tensor:
    """The student's classes at the target's nodes: (B, T, S, 3+K), differentiable.

    Args:
        logits_BTXV: (B, T, U+1, V) or, for ``nodes="band"``, (B, T, S, V); or factors, which are
            evaluated at the target's nodes alone. All may be padded further than the target.
        target: the teacher's.
        labels_BU: int64, the labels that both were conditioned on.
        blank: class id of blank.
        nodes: where the logits stand.

    Raises:
        InputError: student, target and labels do not fit.
        ConfigError: ``nodes`` is unknown.
    """
    widths_B = parse_target(target)
    columns_BTS = None
    if is_banded(target, nodes, logits_BTXV):
        assert target.starts_BT is not None
        width = target.logp_BTSC.shape[2]
        if isinstance(logits_BTXV, FactoredLogits):
            columns_BTS = band_columns(target.starts_BT, width, int(target.labels_B.max()) + 1)
        elif nodes == "lattice":
            logits_BTXV = at_band(logits_BTXV, target.starts_BT, width)
    ids_BTSK = _kept_ids(target, labels_BU, blank, logits_BTXV.shape[-1])
    return node_class_log_probs(logits_BTXV, ids_BTSK, target.frames_B, widths_B - 1, columns_BTS)


def lattice_classes(
    logits_BTUV: Logits, target: LatticeBatch, labels_BU: Tensor, blank: int
) -> Tensor:
    """The student's classes at all nodes: (B, T, U+1, 3+K); beyond a band without the K more.

    Raises:
        InputError: student, target and labels do not fit.
    """
    widths_B = parse_target(target)
    if not is_banded(target, "lattice", logits_BTUV):
        return student_classes(logits_BTUV, target, labels_BU, blank)
    assert target.starts_BT is not None
    columns = int(target.labels_B.max()) + 1
    shape = torch.Size((*target.logp_BTSC.shape[:2], columns, logits_BTUV.shape[-1]))
    ids_BTUK = node_ids(labels_BU, blank, shape, target.labels_B)
    if target.ids_BTSK.shape[-1]:
        padding_BTS = ~node_mask(target.frames_B, widths_B - 1, *target.logp_BTSC.shape[1:3])
        more_BTSK = target.ids_BTSK.masked_fill(padding_BTS[..., None], -1)
        more_BTUK = ids_over_lattice(more_BTSK, target.starts_BT, columns)
        ids_BTUK = torch.cat([ids_BTUK, more_BTUK], -1)
    return node_class_log_probs(logits_BTUV, ids_BTUK, target.frames_B, target.labels_B)


def is_banded(target: LatticeBatch, nodes: str, logits_BTXV: Logits) -> bool:
    """Whether the target has a band, once the logits are known to have its nodes.

    Raises:
        InputError: logits that do not reach the last frame or label.
        ConfigError: ``nodes`` is unknown.
    """
    if nodes not in get_args(Nodes):
        raise ConfigError(unknown_choice("nodes", nodes, get_args(Nodes)))
    batch, frames, width = target.logp_BTSC.shape[:3]
    if target.starts_BT is None:
        return False
    band_alone = nodes == "band" and not isinstance(logits_BTXV, FactoredLogits)
    need = (batch, frames, width if band_alone else int(target.labels_B.max()) + 1)
    room = tuple(logits_BTXV.shape)
    if len(room) != 4 or room[0] != batch or room[1] < frames or room[2] < need[2]:
        raise InputError(
            f"Logits of shape {room} cannot hold the {nodes}'s nodes, whose shape is {need} "
            '(batch, frames, columns). Logits at the nodes of a band need nodes="band"; student '
            "and teacher must have the same frames and labels."
        )
    return True


def parse_target(target: LatticeBatch) -> Tensor:
    """Columns of each utterance's windows, U+1 where the lattice is whole: int64 (B,).

    Raises:
        InputError: the target's parts do not fit each other.
    """
    classes, ids = target.logp_BTSC.shape, target.ids_BTSK.shape
    if len(classes) != 4 or classes[:3] != ids[:3] or classes[3] != ids[3] + 3:
        raise InputError(
            f"The lattice target has log-probabilities {tuple(classes)} and ids {tuple(ids)}; "
            "expected (batch, frames, columns, K + 3) and (batch, frames, columns, K), with "
            "labels + 1 columns or, of a band, fewer."
        )
    if target.starts_BT is None:
        return target.labels_B + 1
    return parse_band(target.starts_BT, classes, target.frames_B, target.labels_B)


def _kept_ids(target: LatticeBatch, labels_BU: Tensor, blank: int, vocab: int) -> Tensor:
    """Blank, next label and the K more of each of the target's nodes: (B, T, S, 2+K)."""
    shape = torch.Size((*target.logp_BTSC.shape[:3], vocab))
    if target.starts_BT is None:
        ids_BTSK = node_ids(labels_BU, blank, shape, target.labels_B)
    else:
        ids_BTSK = band_ids(labels_BU, blank, shape, target.starts_BT, target.labels_B)
    if target.ids_BTSK.shape[-1]:
        ids_BTSK = torch.cat([ids_BTSK, target.ids_BTSK], -1)
    return ids_BTSK
