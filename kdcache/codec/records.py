"""Decoded targets of one utterance, in numpy: what a cache gives back.

Shapes: T encoder frames, U labels, K kept classes, C kept classes of a node or frame with
the special ones (below), D hidden size. Log-probabilities are natural, float32, normalised
over the last axis; a class that does not exist has −inf.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

BLANK, LABEL = 0, 1
"""Positions of blank and of the next label on a lattice's class axis; rest is last."""


@dataclass(frozen=True, slots=True)
class LatticeRecord:
    """Posteriors of a transducer's nodes (t, u), collapsed to a few classes.

    Attributes:
        logp_TSC: float32 (T, U+1, 3+K): blank, next label, K more classes by decreasing
            probability, rest. In the last column (u = U) the label is −inf.
        ids_TSK: int32 (T, U+1, K): class ids of the K more; blank and the next label are
            never among them. −1 (with −inf) where the vocabulary has fewer classes.
    """

    logp_TSC: np.ndarray
    ids_TSK: np.ndarray


@dataclass(frozen=True, slots=True)
class PosteriorRecord:
    """Top-k posteriors of a sequence: encoder frames (N = T) or decoder tokens (N = U+1).

    Attributes:
        logp_NC: float32 (N, K+1): K classes by decreasing probability, rest last.
        ids_NK: int32 (N, K): their class ids.
    """

    logp_NC: np.ndarray
    ids_NK: np.ndarray


@dataclass(frozen=True, slots=True)
class VectorRecord:
    """A vector per frame: hidden states (T, D) or input features (frames, mel bands).

    Attributes:
        values_TD: float32.
    """

    values_TD: np.ndarray


Record = LatticeRecord | PosteriorRecord | VectorRecord
