"""By what a loss that sums over an utterance is divided.

A sum over T × (U+1) nodes is large and grows with the square of an utterance's length, so its
weight beside the RNN-T loss (which grows with U) depends on the corpus. Dividing by labels or
nodes takes that away; which is right is a choice of the recipe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from kdcache.errors import ConfigError
from kdcache.lattice.reduction import unknown_choice

if TYPE_CHECKING:
    from torch import Tensor

LatticeNormalise = Literal["none", "labels", "nodes"]
"""``none``: a sum over nodes, as in the paper; ``labels``: ÷ U; ``nodes``: ÷ their number, which
is T·(U+1) or, of a band, T·S."""

SequenceNormalise = Literal["none", "length"]
"""``none``: a sum over frames or tokens; ``length``: ÷ their number."""


def normalise_lattice(
    loss_B: Tensor, label_lengths_B: Tensor, nodes_B: Tensor, normalise: LatticeNormalise
) -> Tensor:
    """Divide each utterance's loss (B,), a sum over ``nodes_B`` nodes; U = 0 counts as 1.

    Raises:
        ConfigError: ``normalise`` is none of none, labels, nodes.
    """
    match normalise:
        case "none":
            return loss_B
        case "labels":
            return loss_B / label_lengths_B.clamp(min=1)
        case "nodes":
            return loss_B / nodes_B
        case _:
            raise ConfigError(unknown_choice("normalise", normalise, get_args(LatticeNormalise)))


def normalise_sequence(loss_B: Tensor, lengths_B: Tensor, normalise: SequenceNormalise) -> Tensor:
    """Divide each utterance's loss (B,); a length of 0 counts as 1.

    Raises:
        ConfigError: ``normalise`` is none of none, length.
    """
    match normalise:
        case "none":
            return loss_B
        case "length":
            return loss_B / lengths_B.clamp(min=1)
        case _:
            raise ConfigError(unknown_choice("normalise", normalise, get_args(SequenceNormalise)))
