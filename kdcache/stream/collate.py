"""Examples → one padded batch.

Shapes as in ``kdcache.batch``. Padding of log-probabilities is 0.0, of ids −1, of labels 0:
finite, so that masked arithmetic never meets NaN.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from kdcache.batch import (
    Batch,
    HypothesesBatch,
    LatticeBatch,
    PosteriorBatch,
    ScoreBatch,
    TailTable,
    TargetBatch,
    VectorBatch,
)
from kdcache.codec.records import (
    HypothesesRecord,
    LatticeRecord,
    PosteriorRecord,
    Record,
    ScoreRecord,
    VectorRecord,
)
from kdcache.stream.pad import pad

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kdcache.codec.tail import TailModel
    from kdcache.stream.source import Example


def collate(examples: Sequence[Example], targets: Mapping[str, TargetBatch] | None = None) -> Batch:
    """Pad ``examples`` (at least one) into a batch, rows in their order.

    Args:
        examples: of the batch.
        targets: those of the examples, where they were decoded and padded already.
    """
    audio, lengths = None, None
    if all(example.audio is not None for example in examples):
        samples = [example.audio for example in examples if example.audio is not None]
        audio, lengths = _pad(samples, 0.0), _lengths(samples)
    tokens = [example.tokens for example in examples]
    names = examples[0].targets.keys()
    found = {name: collate_records([e.targets[name] for e in examples]) for name in names}
    return Batch(
        ids=tuple(example.id for example in examples),
        texts=tuple(example.text for example in examples),
        labels_BU=_pad(tokens, 0),
        label_lengths_B=_lengths(tokens),
        audio_BN=audio,
        audio_lengths_B=lengths,
        targets=found if targets is None else dict(targets),
    )


def collate_records(records: Sequence[Record]) -> TargetBatch:
    """Pad decoded targets, all of one kind."""
    first = records[0]
    if isinstance(first, LatticeRecord):
        return _collate_lattices([r for r in records if isinstance(r, LatticeRecord)])
    if isinstance(first, PosteriorRecord):
        return _collate_posteriors([r for r in records if isinstance(r, PosteriorRecord)])
    if isinstance(first, ScoreRecord):
        return _collate_scores([r for r in records if isinstance(r, ScoreRecord)])
    if isinstance(first, HypothesesRecord):
        return _collate_hypotheses([r for r in records if isinstance(r, HypothesesRecord)])
    return _collate_vectors([r for r in records if isinstance(r, VectorRecord)])


def _collate_lattices(records: Sequence[LatticeRecord]) -> LatticeBatch:
    values = [record.logp_TSC for record in records]
    return LatticeBatch(
        _pad(values, 0.0),
        _pad([record.ids_TSK for record in records], -1).long(),
        _lengths(values),
        torch.tensor([record.labels for record in records]),
        None if all(record.starts_T is None for record in records) else _starts(records),
    )


def _starts(records: Sequence[LatticeRecord]) -> Tensor:
    """First column of each window, 0 in a whole lattice and in padding: int64 (B, T)."""
    whole = (np.zeros(len(record.logp_TSC), np.int32) for record in records)
    found = [z if r.starts_T is None else r.starts_T for z, r in zip(whole, records, strict=True)]
    return _pad(found, 0).long()


def _collate_posteriors(records: Sequence[PosteriorRecord]) -> PosteriorBatch:
    values = [record.logp_NC for record in records]
    ids = [record.ids_NK for record in records]
    # Utterances may keep different numbers of classes; their rests have one place.
    kept = _pad([value[:, :-1] for value in values], -np.inf)
    rest = _pad([value[:, -1:] for value in values], 0.0)
    logp, lengths = torch.cat([kept, rest], dim=-1), _lengths(values)
    padding = torch.arange(logp.shape[1]) >= lengths[:, None]
    logp.masked_fill_(padding[..., None], 0.0)
    tail = tail_table(records[0].tail)
    return PosteriorBatch(logp, _pad(ids, -1).long(), lengths, tail)


def tail_table(tail: TailModel | None) -> TailTable | None:
    """A model of the rest, as batches have it."""
    return None if tail is None else _table(tail)


@lru_cache(maxsize=8)
def _table(tail: TailModel) -> TailTable:
    """The same tensors for every batch of a cache, whose records share one model."""
    rows = torch.from_numpy(tail.row_V.astype(np.int64))
    return TailTable(torch.from_numpy(tail.log_weights), rows)


def _collate_vectors(records: Sequence[VectorRecord]) -> VectorBatch:
    values = [record.values_TD for record in records]
    codes = [record.codes_TQ for record in records if record.codes_TQ is not None]
    entries = _pad([c.astype(np.int16) for c in codes], -1).long() if codes else None
    return VectorBatch(_pad(values, 0.0), _lengths(values), entries)


def _collate_scores(records: Sequence[ScoreRecord]) -> ScoreBatch:
    return ScoreBatch(torch.from_numpy(np.concatenate([record.score_1 for record in records])))


def _collate_hypotheses(records: Sequence[HypothesesRecord]) -> HypothesesBatch:
    none = np.empty((0, 0), np.int32)
    lists = [record.sequences() for record in records]
    return HypothesesBatch(
        _pad([record.scores_H for record in records], 0.0),
        _pad([pad(found, -1) if found else none for found in lists], -1).long(),
        _pad([record.lengths_H for record in records], 0).long(),
        _lengths([record.scores_H for record in records]),
    )


def _lengths(arrays: Sequence[np.ndarray]) -> Tensor:
    return torch.tensor([len(array) for array in arrays], dtype=torch.int64)


def _pad(arrays: Sequence[np.ndarray], value: float) -> Tensor:
    return torch.from_numpy(pad(arrays, value))
