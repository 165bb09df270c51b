"""Logits of a lattice that are not multiplied out.

A transducer's logits are joint(decoder[u], encoder[t]). The factors are small, (B, T, J) and
(B, U+1, J); their product over all nodes and classes is the largest thing in training, and its
gradient is as large again. Every loss of this project needs a few classes of each node
(``classes.py``). So the losses take the factors in the place of logits: at the nodes of a band the
joint network is evaluated there alone, and what is large is evaluated block by block
(``joint_blocks.py``). What is small is multiplied out in one piece and kept.

Shapes: B batch, T encoder frames, U labels (a node axis has U+1 entries), S columns of a frame's
window (of a whole lattice U+1), V vocabulary with blank, J joint width, K kept class ids, C = K+1
classes, rest last.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kdcache.errors import InputError
from kdcache.lattice.classes import check_room, class_log_probs
from kdcache.lattice.joint_blocks import JointNodes, joint_logits, joint_logits_at
from kdcache.lattice.lengths import parse_extents

if TYPE_CHECKING:
    from kdcache.lattice.joint_blocks import Joint

BLOCK_ELEMENTS = {"cpu": 1 << 21, "cuda": 1 << 25}
"""Logits and joint states of a block: on a CPU what stays in cache, on a GPU what fills it."""

HELD_ELEMENTS = {"cpu": 1 << 24, "cuda": 1 << 27}
"""Logits and joint states that are multiplied out in one piece and kept."""


@dataclass(frozen=True, slots=True)
class FactoredLogits:
    """What a lattice of logits is made of; losses take it in the place of logits.

    The joint network is asked for one node, to learn how many classes it has. It can be anybody's
    callable, from decoder states (B, 1 or T, S, J) and encoder frames (B, T, 1, J), broadcast
    against each other, to logits (B, T, S, V), node by node; large lattices ask it for blocks.

    Attributes:
        encoder_BTJ: what the joint network takes of the encoder, any floating dtype.
        decoder_BUJ: what it takes of the prediction network, (B, U+1, J).
        joint: the joint network.
        shape: (B, T, U+1, V) of the lattice that they make.

    Raises:
        InputError: the factors are not of one batch, or the joint network gives no logits.
    """

    encoder_BTJ: Tensor
    decoder_BUJ: Tensor
    joint: Joint
    shape: torch.Size = field(init=False)

    def __post_init__(self) -> None:
        encoder, decoder = self.encoder_BTJ.shape, self.decoder_BUJ.shape
        if len(encoder) != 3 or len(decoder) != 3 or encoder[0] != decoder[0]:
            raise InputError(
                f"The joint network's inputs have shapes {tuple(encoder)} and {tuple(decoder)}; "
                "expected (batch, frames, width) of the encoder and (batch, labels + 1, width) of "
                "the prediction network."
            )
        shape = torch.Size((*encoder[:2], decoder[1], self._count_classes()))
        object.__setattr__(self, "shape", shape)

    def lattice_logits(self) -> Tensor:
        """Multiply out every node: (B, T, U+1, V)."""
        return joint_logits(self.joint, self.encoder_BTJ, self.decoder_BUJ)

    def logits_at(self, columns_BTS: Tensor) -> Tensor:
        """Multiply out some columns of each frame: (B, T, S, V).

        Args:
            columns_BTS: int64 from 0 to U, for at most as many frames; of a band see
                :func:`kdcache.lattice.banded.band_columns`.
        """
        encoder_BTJ = self.encoder_BTJ[:, : columns_BTS.shape[1]]
        return joint_logits_at(self.joint, encoder_BTJ, self.decoder_BUJ, columns_BTS)

    def _count_classes(self) -> int:
        with torch.no_grad():
            node = self.joint(self.decoder_BUJ[:1, None, :1], self.encoder_BTJ[:1, :1, None])
        if node.dim() != 4 or not node.is_floating_point():
            raise InputError(
                f"The joint network gives {node.dtype} of shape {tuple(node.shape)} for one node; "
                "expected logits of shape (1, 1, 1, vocabulary)."
            )
        return node.shape[3]


Logits = Tensor | FactoredLogits
"""A student's logits, or what they are made of."""


def node_class_log_probs(
    logits_BTSV: Logits,
    ids_BTSK: Tensor,
    frames_B: Tensor | None = None,
    last_columns_B: Tensor | None = None,
    columns_BTS: Tensor | None = None,
) -> Tensor:
    """:func:`kdcache.lattice.class_log_probs` of logits, or of what they are made of.

    Args:
        logits_BTSV: logits at the nodes that ``ids_BTSK`` is about, or factors.
        ids_BTSK: int64 class ids as in :func:`kdcache.lattice.class_log_probs`.
        frames_B: T of each utterance; ``None`` means no padding in time.
        last_columns_B: S − 1 of each utterance; ``None`` means no padding in columns.
        columns_BTS: of factors, which column each place is; ``None`` where place s is column s.

    Returns:
        (B, T, S, C): float64 for float64 logits, else float32. Padding is 0.

    Raises:
        InputError: shapes or lengths do not fit, or an id is outside the vocabulary.
    """
    if isinstance(logits_BTSV, Tensor):
        return class_log_probs(logits_BTSV, ids_BTSK, frames_B, last_columns_B)
    check_room(logits_BTSV.shape, ids_BTSK)
    if columns_BTS is not None:
        _check_columns(columns_BTS, logits_BTSV.shape[2])
    factors = (logits_BTSV.joint, logits_BTSV.encoder_BTJ, logits_BTSV.decoder_BUJ)
    extents = parse_extents(frames_B, last_columns_B, ids_BTSK.shape)
    nodes = JointNodes(*factors, ids_BTSK, columns_BTS, extents)
    elements = logits_BTSV.shape[3] + logits_BTSV.encoder_BTJ.shape[2]
    device = logits_BTSV.encoder_BTJ.device.type
    if ids_BTSK.shape[:3].numel() * elements <= _limit(HELD_ELEMENTS, device):
        return nodes.at_once()
    return nodes.by_blocks(max(1, _limit(BLOCK_ELEMENTS, device) // elements))


def _check_columns(columns_BTS: Tensor, columns: int) -> None:
    most = int(columns_BTS.max()) if columns_BTS.numel() else 0
    if most >= columns:
        raise InputError(
            f"The band reaches column {most}, and the prediction network's output has {columns} "
            "columns; expected one more than there are labels."
        )


def _limit(limits: dict[str, int], device: str) -> int:
    return limits.get(device, limits["cuda"])
