"""The most probable alignment of the labels to frames.

Shapes: B batch, T encoder frames, U labels (a node axis has U+1 entries), D = T+U diagonals.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from kdcache.lattice.scan import at_end, incoming, real_arcs, sweep

if TYPE_CHECKING:
    from torch import Tensor


class BestPath(NamedTuple):
    """One alignment of each utterance.

    Attributes:
        frames_BU: int64 (B, U), the frame at which each label is emitted; −1 in padding.
        log_prob_B: float64, log-probability of that path, last blank included.
    """

    frames_BU: Tensor
    log_prob_B: Tensor


def best_path(
    blank_BTU: Tensor, label_BTU: Tensor, frames_B: Tensor, label_lengths_B: Tensor
) -> BestPath:
    """Viterbi alignment. Of equally probable paths the one that emits earlier is taken.

    Args:
        blank_BTU: log-probability of blank at each node, (B, T, U+1).
        label_BTU: log-probability of the next label; column u = U is ignored.
        frames_B: T ≥ 1 of each utterance, int64.
        label_lengths_B: U ≥ 0 of each utterance, int64.

    Raises:
        InputError: the lengths do not fit the lattice.
    """
    arcs = real_arcs(blank_BTU, label_BTU, frames_B, label_lengths_B)
    into = incoming(arcs)
    score_BTU = sweep(*into, torch.zeros_like(arcs.blank_BTU[:, 0, 0]), torch.maximum)
    before = incoming(type(arcs)(score_BTU, score_BTU))
    emitted_BTU = before.label_BTU + into.label_BTU > before.blank_BTU + into.blank_BTU
    return BestPath(
        _trace(emitted_BTU, frames_B, label_lengths_B),
        at_end(score_BTU + arcs.blank_BTU, frames_B, label_lengths_B),
    )


def _trace(emitted_BTU: Tensor, frames_B: Tensor, label_lengths_B: Tensor) -> Tensor:
    """Walk back from each last node; ``emitted`` says that a label led into the node."""
    batch, frames, columns = emitted_BTU.shape
    rows_B = torch.arange(batch, device=emitted_BTU.device)
    # A spare column takes the writes of steps that emit nothing.
    found_BU = frames_B.new_full((batch, columns), -1)
    t_B, u_B = frames_B - 1, label_lengths_B.clone()
    for _ in range(frames + columns - 2):
        emits_B = emitted_BTU[rows_B, t_B, u_B] & (u_B > 0)
        slot_B = torch.where(emits_B, u_B - 1, columns - 1)
        found_BU[rows_B, slot_B] = t_B
        u_B = u_B - emits_B.long()
        t_B = (t_B - (~emits_B).long()).clamp(min=0)
    return found_BU[:, : columns - 1]
