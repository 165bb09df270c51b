"""Packed columns of some utterances → one padded target, decoded all at once.

Most codecs decode each row of classes by itself. Then codes can be padded first, where they
are bytes, and looked up in one go: no array of an utterance is made in float, only to be
copied into the batch. Rows of different lengths are written once, where they are to stay, and
lattices of which each node is told by its neighbours are unpacked together. What comes out
equals, bit for bit, decoding one by one and padding (``kdcache.stream.collate.collate_records``),
which is what other codecs get.

Shapes as in ``kdcache.batch``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from kdcache.batch import LatticeBatch, PosteriorBatch, VectorBatch
from kdcache.codec import (
    Fp16VectorCodec,
    Int8VectorCodec,
    LatticeCodec,
    PosteriorCodec,
    RaggedPosteriorCodec,
    RootLatticeCodec,
)
from kdcache.codec.ids import ABSENT, unpack_ids_into
from kdcache.codec.starts import unpack_starts
from kdcache.stream.collate import collate_records, tail_table
from kdcache.stream.pad import clear_padding, pad

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kdcache.batch import TargetBatch
    from kdcache.codec import RecordCodec
    from kdcache.codec.logprob import LogProbQuantiser
    from kdcache.stream.buffers import Allocate

    Columns = Mapping[str, np.ndarray]


def collate_packed(
    codec: RecordCodec, parts: Sequence[Columns], empty: Allocate = np.empty
) -> TargetBatch:
    """Decode and pad the columns of a target, at least one utterance's.

    Args:
        codec: of the target.
        parts: its columns by name, one mapping an utterance.
        empty: makes the batch's arrays.
    """
    if isinstance(codec, PosteriorCodec) and _posteriors_are_alike(parts):
        return _posteriors(codec, parts, empty)
    if isinstance(codec, LatticeCodec):
        return _lattices(codec, parts, empty)
    if isinstance(codec, Int8VectorCodec):
        return _int8_vectors(parts, empty)
    if isinstance(codec, Fp16VectorCodec):
        return _fp16_vectors(parts, empty)
    if isinstance(codec, RaggedPosteriorCodec):
        return _ragged_posteriors(codec, parts, empty)
    if isinstance(codec, RootLatticeCodec):
        return collate_records(codec.decode_all(parts))
    return collate_records([codec.decode(columns) for columns in parts])


def _posteriors_are_alike(parts: Sequence[Columns]) -> bool:
    """Rows of one width, whose rest has one place, with their ids beside them."""
    return len({p["logp"].shape[1] for p in parts}) == 1 and all("ids" in p for p in parts)


def _posteriors(codec: PosteriorCodec, parts: Sequence[Columns], empty: Allocate) -> PosteriorBatch:
    codes = [columns["logp"] for columns in parts]
    logp_BNC = _logp(codec.quantiser, codes, 1, empty)
    ids_BNK = _ids([columns["ids"] for columns in parts], empty)
    return PosteriorBatch(logp_BNC, ids_BNK, _lengths(codes))


def _ragged_posteriors(
    codec: RaggedPosteriorCodec, parts: Sequence[Columns], empty: Allocate
) -> PosteriorBatch:
    """Rows come into the batch once its width is known, and nowhere else before."""
    found = [codec.unpack(columns) for columns in parts]
    lengths, kept = [len(one.count_N) for one in found], max(one.kept for one in found)
    logp_BNC = empty((len(found), max(lengths), kept + 1), np.float32)
    ids_BNK = empty((len(found), max(lengths), kept), np.int64)
    for one, length, logp_NC, ids_NK in zip(found, lengths, logp_BNC, ids_BNK, strict=True):
        one.write(logp_NC[:length], ids_NK[:length])
        logp_NC[length:] = 0.0
        ids_NK[length:] = -1
    return PosteriorBatch(
        torch.from_numpy(logp_BNC),
        torch.from_numpy(ids_BNK),
        torch.tensor(lengths, dtype=torch.int64),
        tail_table(found[0].tail),
    )


def _lattices(codec: LatticeCodec, parts: Sequence[Columns], empty: Allocate) -> LatticeBatch:
    codes = [columns["logp"] for columns in parts]
    logp_BTSC = _logp(codec.quantiser, codes, 2, empty)
    starts = [_starts(columns) for columns in parts]
    banded = any("starts" in columns for columns in parts)
    return LatticeBatch(
        logp_BTSC,
        _lattice_ids(parts, logp_BTSC.shape, empty),
        _lengths(codes),
        torch.tensor([_labels(*pair) for pair in zip(starts, codes, strict=True)]),
        torch.from_numpy(pad(starts, 0)).long() if banded else None,
    )


def _starts(columns: Columns) -> np.ndarray:
    """First column of each window, 0 in a whole lattice: int32 (T,)."""
    frames = len(columns["logp"])
    if "starts" in columns:
        return unpack_starts(columns["starts"], frames)
    return np.zeros(frames, np.int32)


def _labels(starts_T: np.ndarray, codes: np.ndarray) -> int:
    """U: the last window ends at column U."""
    return int(starts_T[-1:].sum() + codes.shape[1] - 1)


def _lattice_ids(parts: Sequence[Columns], shape: tuple[int, ...], empty: Allocate) -> Tensor:
    if not any("ids" in columns for columns in parts):
        return torch.empty((*shape[:3], 0), dtype=torch.int64)
    none = np.empty((0, 0, 0), np.uint16)
    return _ids([columns.get("ids", none) for columns in parts], empty)


def _logp(
    quantiser: LogProbQuantiser, codes: Sequence[np.ndarray], axes: int, empty: Allocate
) -> Tensor:
    """Padded codes, decoded; 0 beyond each utterance's lengths along the first ``axes`` axes."""
    padded = pad(codes, 0, empty)
    logp = quantiser.decode(padded, empty(padded.shape, np.float32))
    clear_padding(logp, codes, axes)
    return torch.from_numpy(logp)


def _ids(codes: Sequence[np.ndarray], empty: Allocate) -> Tensor:
    padded = pad(codes, ABSENT, empty)
    ids = empty(padded.shape, np.int64)
    unpack_ids_into(ids, padded)
    return torch.from_numpy(ids)


def _int8_vectors(parts: Sequence[Columns], empty: Allocate) -> VectorBatch:
    codes = [columns["values"] for columns in parts]
    # Made floats on the way into the batch: torch takes longer to multiply types that differ.
    values_BTD = torch.from_numpy(pad(codes, 0, empty, np.float32))
    scale_BD = torch.from_numpy(pad([columns["scale"] for columns in parts], 0.0))
    return VectorBatch(values_BTD.mul_(scale_BD[:, None]), _lengths(codes))


def _fp16_vectors(parts: Sequence[Columns], empty: Allocate) -> VectorBatch:
    halves = [columns["values"] for columns in parts]
    halves_BTD = torch.from_numpy(pad(halves, 0.0, empty))
    values_BTD = torch.from_numpy(empty(tuple(halves_BTD.shape), np.float32))
    return VectorBatch(values_BTD.copy_(halves_BTD), _lengths(halves))


def _lengths(arrays: Sequence[np.ndarray]) -> Tensor:
    return torch.tensor([len(array) for array in arrays], dtype=torch.int64)
