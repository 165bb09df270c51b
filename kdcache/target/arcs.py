"""The two numbers of a node that forward-backward asks for: blank and the next label.

The lattice is multiplied out a few frames at a time, and only these two are kept.

Shapes: T encoder frames, U labels (a node axis has U+1 entries), V vocabulary with blank.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kdcache.errors import TeacherOutputError
from kdcache.target.nodes import chunks, next_labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcache.teacher.protocol import LatticeLogits


def arcs_of(lattice: LatticeLogits, tokens: Sequence[int], budget: int) -> tuple[Tensor, Tensor]:
    """Log-probabilities of blank and of the next label at every node, float32 (T, U+1) each.

    Args:
        lattice: the teacher's.
        tokens: the U labels it is conditioned on.
        budget: logits that may be in memory at once; a single frame may have more.

    Raises:
        TeacherOutputError: NaN or +inf among the logits, or tokens that are no labels.
    """
    parts = [_arcs(part, tokens, lattice.blank) for _, part in chunks(lattice, budget)]
    blank_TU, label_TU = (torch.cat(list(part)) for part in zip(*parts, strict=True))
    return blank_TU, label_TU


def _arcs(logits_TUV: Tensor, tokens: Sequence[int], blank: int) -> tuple[Tensor, Tensor]:
    next_U1 = next_labels(tokens, blank, logits_TUV)[:, None]
    logits_TUV = logits_TUV.float()
    total_TU = logits_TUV.logsumexp(-1)
    if not bool(total_TU.isfinite().all()):
        raise TeacherOutputError("The teacher gave NaN or infinite logits.")
    label_TU = logits_TUV.gather(-1, next_U1.expand(len(logits_TUV), -1, -1))[..., 0]
    return logits_TUV[..., blank] - total_TU, label_TU - total_TU
