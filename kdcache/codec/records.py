"""Decoded targets of one utterance, in numpy: what a cache gives back.

Shapes: T encoder frames, U labels, K kept classes, C kept classes of a node or frame with
the special ones (below), S columns of a frame's window, D hidden size, Q codebooks, H hypotheses,
L labels of all of them. Log-probabilities are natural, float32, normalised over the last axis; a
class that does not exist has −inf.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from kdcache.codec.tail import TailModel

BLANK, LABEL = 0, 1
"""Positions of blank and of the next label on a lattice's class axis; rest is last."""


@dataclass(frozen=True, slots=True)
class LatticeRecord:
    """Posteriors of a transducer's nodes (t, u), collapsed to a few classes.

    Of each frame the record has S neighbouring nodes: of a whole lattice all U+1, of a band those
    from the frame's start on. Windows of a band do not go down, each shares a column with the
    next, the first begins at column 0 and the last ends at column U.

    Attributes:
        logp_TSC: float32 (T, S, 3+K): blank, next label, K more classes by decreasing
            probability, rest. At column u = U the label is −inf.
        ids_TSK: int32 (T, S, K): class ids of the K more; blank and the next label are never
            among them. −1 (with −inf) where the vocabulary has fewer classes.
        starts_T: int32, the first column of each window; ``None`` where the lattice is whole.
    """

    logp_TSC: np.ndarray
    ids_TSK: np.ndarray
    starts_T: np.ndarray | None = None

    @property
    def labels(self) -> int:
        """U: the last window ends at that column."""
        width = int(self.logp_TSC.shape[1])
        return width - 1 if self.starts_T is None else int(self.starts_T[-1]) + width - 1


@dataclass(frozen=True, slots=True)
class PosteriorRecord:
    """Posteriors of a sequence: encoder frames (N = T) or decoder tokens (N = U+1).

    Rows may keep different numbers of classes: a slot of −inf and id −1 is not used, and
    whatever class is in none of a row's slots belongs to its rest.

    Attributes:
        logp_NC: float32 (N, K+1): K classes by decreasing probability, rest last. Where every
            class is kept (``top_k: all``), they are in order of id instead.
        ids_NK: int32 (N, K): their class ids.
        tail: how the rest lies among the classes that are left; ``None`` for evenly.
    """

    logp_NC: np.ndarray
    ids_NK: np.ndarray
    tail: TailModel | None = None


@dataclass(frozen=True, slots=True)
class VectorRecord:
    """A vector per frame: hidden states (T, D) or input features (frames, mel bands).

    Attributes:
        values_TD: float32.
        codes_TQ: uint8, the entry of each of Q codebooks that the vectors are sums of; ``None``
            where they were not packed by codebooks (``kdcache.codec.codebooks``).
    """

    values_TD: np.ndarray
    codes_TQ: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class ScoreRecord:
    """One number that a teacher gives to the whole utterance.

    Attributes:
        score_1: float32 (1,): log P(y | x) of the transcript in nats, over all alignments; −inf
            where the teacher has no alignment for it.
    """

    score_1: np.ndarray


@dataclass(frozen=True, slots=True)
class HypothesesRecord:
    """What a teacher would have written: its likeliest label sequences, best first.

    Attributes:
        scores_H: float32, log P(y | x) of each in nats, over all alignments; never rising.
        lengths_H: int32, labels of each; 0 of the empty one.
        ids_L: int32, the label ids of all of them, one after the other.
    """

    scores_H: np.ndarray
    lengths_H: np.ndarray
    ids_L: np.ndarray

    def sequences(self) -> list[np.ndarray]:
        """The label ids of each hypothesis."""
        ends = self.lengths_H.cumsum().tolist()
        starts = [0, *ends[:-1]]
        return [self.ids_L[start:end] for start, end in zip(starts, ends, strict=False)]


Record = LatticeRecord | PosteriorRecord | VectorRecord | ScoreRecord | HypothesesRecord
