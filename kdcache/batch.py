"""Padded batches: the one thing that streams make, losses read and trainers move.

Shapes: B batch, T encoder frames, U labels, C kept classes of a node or frame, K kept class
ids, S columns of a frame's window (U+1 where lattices are whole), D hidden size, N audio samples
or tokens, H hypotheses, Q codebooks, F feature frames, M mel bands, R rows of weights, V
vocabulary. ``*_B`` are lengths (int64). What lies beyond a length is padding, whose value means
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TypeVar

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class LatticeBatch:
    """Teacher posteriors of lattice nodes (see ``kdcache.codec.records.LatticeRecord``).

    Place s of frame t is node (t, u = starts[t] + s). An utterance's own S is that of its last
    window, which ends at column U; places beyond it are padding.

    Attributes:
        logp_BTSC: float32 (B, T, S, 3+K): blank, label, K more, rest; normalised.
        ids_BTSK: int64 (B, T, S, K); −1 where there is no such class.
        frames_B: T of each utterance.
        labels_B: U of each utterance.
        starts_BT: int64, first column of each window; ``None`` where all lattices are whole.
    """

    logp_BTSC: Tensor
    ids_BTSK: Tensor
    frames_B: Tensor
    labels_B: Tensor
    starts_BT: Tensor | None = None


@dataclass(frozen=True, slots=True)
class TailTable:
    """How the rest lies among the classes that a row does not keep; one for a whole cache.

    Attributes:
        logw_RV: float32 (R, V): logarithms of the weights by which classes share the rest.
        row_V: int64 (V,): which row serves a frame whose likeliest class is v.
    """

    logw_RV: Tensor
    row_V: Tensor


@dataclass(frozen=True, slots=True)
class PosteriorBatch:
    """Teacher posteriors of frames or tokens: some classes of each, and the rest.

    Attributes:
        logp_BNC: float32 (B, N, K+1): K classes, rest last; normalised. −inf in a slot that
            a row does not use.
        ids_BNK: int64 (B, N, K); −1 in a slot that a row does not use. A class in none of a
            row's slots belongs to its rest.
        lengths_B: N of each utterance.
        tail: how the rest lies; ``None`` for evenly.
    """

    logp_BNC: Tensor
    ids_BNK: Tensor
    lengths_B: Tensor
    tail: TailTable | None = None


@dataclass(frozen=True, slots=True)
class VectorBatch:
    """Teacher vectors: hidden states or features.

    Attributes:
        values_BTD: float32.
        lengths_B: T of each utterance.
        codes_BTQ: int64 entries of the codebooks that the vectors are sums of; −1 in padding.
            ``None`` where they were not packed by codebooks.
    """

    values_BTD: Tensor
    lengths_B: Tensor
    codes_BTQ: Tensor | None = None


@dataclass(frozen=True, slots=True)
class ScoreBatch:
    """One number that the teacher gives to each utterance.

    Attributes:
        scores_B: float32, log P(y | x) of the transcript in nats; −inf where the teacher has no
            alignment for it.
    """

    scores_B: Tensor


@dataclass(frozen=True, slots=True)
class HypothesesBatch:
    """The teacher's likeliest label sequences of each utterance, best first.

    Attributes:
        scores_BH: float32, log P(y | x) of each in nats.
        ids_BHU: int64 label ids; −1 in padding.
        lengths_BH: U of each hypothesis; 0 of an empty one.
        counts_B: H of each utterance.
    """

    scores_BH: Tensor
    ids_BHU: Tensor
    lengths_BH: Tensor
    counts_B: Tensor


TargetBatch = LatticeBatch | PosteriorBatch | VectorBatch | ScoreBatch | HypothesesBatch


@dataclass(frozen=True, slots=True)
class Batch:
    """Utterances with the student's input, the reference and the teacher's targets.

    Attributes:
        ids: utterance ids, in row order.
        texts: transcripts.
        labels_BU: int64 token ids.
        label_lengths_B: U of each utterance.
        audio_BN: float32 samples in [−1, 1], or ``None`` where features are streamed.
        audio_lengths_B: N of each utterance.
        targets: by the target's name in the cache.
    """

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    labels_BU: Tensor
    label_lengths_B: Tensor
    audio_BN: Tensor | None
    audio_lengths_B: Tensor | None
    targets: dict[str, TargetBatch]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lattice(self) -> LatticeBatch:
        """The target named ``lattice``; KeyError by that name if it was not streamed."""
        target = self.targets["lattice"]
        assert isinstance(target, LatticeBatch)
        return target

    def to(self, device: torch.device | str, non_blocking: bool = True) -> Batch:
        """The same batch with every tensor on ``device``; training loops look for this method."""
        return to_device(self, device, non_blocking=non_blocking)


MovableT = TypeVar(
    "MovableT",
    Batch,
    HypothesesBatch,
    LatticeBatch,
    PosteriorBatch,
    ScoreBatch,
    TailTable,
    VectorBatch,
)


def to_device(
    batch: MovableT, device: torch.device | str, *, non_blocking: bool = True
) -> MovableT:
    """The same batch with every tensor on ``device``."""
    moved: dict[str, object] = {}
    for item in fields(batch):
        value = getattr(batch, item.name)
        if isinstance(value, Tensor):
            moved[item.name] = value.to(device, non_blocking=non_blocking)
        elif isinstance(value, TailTable):
            moved[item.name] = to_device(value, device, non_blocking=non_blocking)
        elif isinstance(value, dict):
            moved[item.name] = {
                name: to_device(part, device, non_blocking=non_blocking)
                for name, part in value.items()
            }
    return replace(batch, **moved)  # type: ignore[arg-type]
