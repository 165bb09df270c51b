"""Which nodes of a teacher's lattice are kept: a band by the teacher's own occupancies.

The lattice is multiplied out a few frames at a time, once to keep two numbers a node, blank and
next label, from which forward-backward tells how probable it is that the alignment passes there
(``kdcache.lattice``). What a node's classes are is asked a second time, of the band's nodes alone.

Shapes: T encoder frames, U labels (a node axis has U+1 entries).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from kdcache.errors import TeacherOutputError
from kdcache.lattice import forward_backward, node_occupancy
from kdcache.target.arcs import arcs_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcache.lattice import Band, BandRule
    from kdcache.teacher.protocol import LatticeLogits


def choose_band(lattice: LatticeLogits, tokens: Sequence[int], rule: BandRule, budget: int) -> Band:
    """The best band of an utterance.

    Args:
        lattice: the teacher's.
        tokens: the U labels it is conditioned on.
        rule: how wide.
        budget: logits that may be in memory at once; a single frame may have more.

    Raises:
        TeacherOutputError: NaN or +inf among the logits, or labels that the teacher gives no
            probability at all.
    """
    blank_TU, label_TU = arcs_of(lattice, tokens, budget)
    frames, columns = blank_TU.shape
    lengths = (torch.tensor([n], device=blank_TU.device) for n in (frames, columns - 1))
    found = forward_backward(blank_TU[None], label_TU[None], *lengths)
    if not bool(found.log_likelihood_B.isfinite()):
        raise TeacherOutputError(
            "The teacher gives the transcript probability 0, so that no band can be chosen by "
            "where it is spoken; check the transcript, or keep the whole lattice."
        )
    return rule.choose(node_occupancy(found)[0].cpu().numpy())
