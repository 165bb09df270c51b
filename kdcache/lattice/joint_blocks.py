"""Classes of a lattice's nodes from a joint network that is evaluated block by block.

A block is evaluated, reduced to its classes (``classes.py``) and forgotten; when its gradient is
asked for, it is evaluated again. There is never more than one block of logits, beside its
gradient. The price is the joint network's forward pass once more. Autocast and dropout are then
as they were, and the joint network's parameters get their gradients wherever they are kept (Chen
et al., "Training deep nets with sublinear memory cost", arXiv 1604.06174, by
``torch.utils.checkpoint``).

A block is some utterances, or some frames of one: what is padding within a batch is not evaluated,
beyond that of utterances that share a block.

Shapes: B utterances, T encoder frames, U labels (a node axis has U+1 entries), S columns of a
frame's window (of a whole lattice U+1), V vocabulary with blank, J joint width, K kept class ids,
C = K+1 classes, rest last.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import embedding, pad
from torch.utils.checkpoint import checkpoint

from kdcache.lattice.classes import reduce_classes

if TYPE_CHECKING:
    from kdcache.lattice.blocks import Extents

Joint = Callable[[Tensor, Tensor], Tensor]
"""Decoder states (B, 1 or T, S, J) and encoder frames (B, T, 1, J) to logits (B, T, S, V)."""


@dataclass(frozen=True, slots=True)
class JointNodes:
    """Nodes whose classes are wanted, and what their logits are made of.

    Attributes:
        joint: the joint network.
        encoder_BTJ: what it takes of the encoder; at least as many frames as ``ids_BTSK``.
        decoder_BUJ: what it takes of the prediction network, (B, ≥ U+1, J).
        ids_BTSK: int64 class ids, as in :func:`kdcache.lattice.class_log_probs`.
        columns_BTS: int64 column of each place; ``None`` where place s is column s.
        extents: real frames and columns of each utterance.
    """

    joint: Joint
    encoder_BTJ: Tensor
    decoder_BUJ: Tensor
    ids_BTSK: Tensor
    columns_BTS: Tensor | None
    extents: Extents

    def at_once(self) -> Tensor:
        """Evaluate all nodes in one piece, and keep their logits: (B, T, S, C)."""
        return self._classes(self.encoder_BTJ, self.decoder_BUJ)

    def by_blocks(self, nodes: int) -> Tensor:
        """The same, from blocks of so many nodes (of a frame at least): (B, T, S, C)."""
        shape = self.ids_BTSK.shape
        return torch.cat([_padded(part._by_frames(nodes), shape) for part in self._split(nodes)])

    def _split(self, nodes: int) -> list[JointNodes]:
        """Neighbouring utterances that share a block, and each that needs several."""
        cuts = share_blocks(self.extents, nodes)
        sizes = [cut.stop - cut.start for cut in cuts]
        # Gradients of what is split are put together once; a slice's would be padded each time.
        factors = torch.split(self.encoder_BTJ, sizes), torch.split(self.decoder_BUJ, sizes)
        return [self._utterances(*part) for part in zip(cuts, *factors, strict=True)]

    def _utterances(self, rows: slice, encoder_BTJ: Tensor, decoder_BUJ: Tensor) -> JointNodes:
        extents = self.extents[rows]
        frames, columns = (max(1, *sizes) for sizes in zip(*extents, strict=True))
        columns_BTS = self.columns_BTS
        if columns_BTS is not None:
            columns_BTS = columns_BTS[rows, :frames, :columns]
        ids_BTSK = self.ids_BTSK[rows, :frames, :columns]
        return JointNodes(
            self.joint, encoder_BTJ[:, :frames], decoder_BUJ, ids_BTSK, columns_BTS, extents
        )

    def _by_frames(self, nodes: int) -> Tensor:
        """Evaluate a few frames at a time, and again when their gradient is asked for."""
        batch, frames, columns = self.ids_BTSK.shape[:3]
        step = max(1, nodes // (batch * columns))
        parts = [
            checkpoint(
                self._frames(slice(start, start + step))._classes,
                encoder_BTJ,
                self.decoder_BUJ,
                use_reentrant=False,
            )
            for start, encoder_BTJ in zip(
                range(0, frames, step), torch.split(self.encoder_BTJ, step, 1), strict=True
            )
        ]
        return torch.cat(parts, 1)

    def _frames(self, cut: slice) -> JointNodes:
        columns_BTS = None if self.columns_BTS is None else self.columns_BTS[:, cut]
        ids_BTSK = self.ids_BTSK[:, cut]
        most = ids_BTSK.shape[1]
        extents = [(min(max(t - cut.start, 0), most), columns) for t, columns in self.extents]
        return replace(self, ids_BTSK=ids_BTSK, columns_BTS=columns_BTS, extents=extents)

    def _classes(self, encoder_BTJ: Tensor, decoder_BUJ: Tensor) -> Tensor:
        frames, columns = self.ids_BTSK.shape[1:3]
        encoder_BTJ = encoder_BTJ[:, :frames]
        if self.columns_BTS is None:
            logits_BTSV = joint_logits(self.joint, encoder_BTJ, decoder_BUJ[:, :columns])
        else:
            logits_BTSV = joint_logits_at(self.joint, encoder_BTJ, decoder_BUJ, self.columns_BTS)
        return reduce_classes(logits_BTSV, self.ids_BTSK, self.extents)


def joint_logits(joint: Joint, encoder_BTJ: Tensor, decoder_BUJ: Tensor) -> Tensor:
    """Logits of every node: (B, T, U+1, V)."""
    return joint(decoder_BUJ[:, None], encoder_BTJ[:, :, None])


def joint_logits_at(
    joint: Joint, encoder_BTJ: Tensor, decoder_BUJ: Tensor, columns_BTS: Tensor
) -> Tensor:
    """Logits at some columns of each frame: (B, T, S, V)."""
    batch, columns = decoder_BUJ.shape[:2]
    first_B11 = columns * torch.arange(batch, device=columns_BTS.device)[:, None, None]
    # As rows of a table: the gradient of an index goes by element, that of an embedding by row.
    decoder_BTSJ = embedding(columns_BTS + first_B11, decoder_BUJ.flatten(0, 1))
    return joint(decoder_BTSJ, encoder_BTJ[:, :, None])


def share_blocks(extents: Extents, nodes: int) -> list[slice]:
    """Cut a batch into runs of utterances that, padded to each other, have so many nodes.

    Args:
        extents: frames and columns of each utterance.
        nodes: most nodes of a run; an utterance that has more is a run by itself.
    """
    runs: list[slice] = []
    start, frames, columns = 0, 0, 0
    for row, (t, u) in enumerate(extents):
        frames, columns = max(frames, t), max(columns, u)
        if row > start and (row + 1 - start) * frames * columns > nodes:
            runs.append(slice(start, row))
            start, frames, columns = row, t, u
    return [*runs, slice(start, len(extents))]


def _padded(logp_BTSC: Tensor, shape: torch.Size) -> Tensor:
    frames, columns = shape[1] - logp_BTSC.shape[1], shape[2] - logp_BTSC.shape[2]
    return pad(logp_BTSC, (0, 0, 0, columns, 0, frames))
