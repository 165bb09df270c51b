"""Packed columns of some utterances → one padded target, decoded all at once.

Most codecs decode each row of classes by itself. Then codes can be padded first, where they
are bytes, and looked up in one go: no array of an utterance is made in float, only to be
copied into the batch. What comes out equals, bit for bit, decoding one by one and padding
(``kdcache.stream.collate.collate_records``), which is what other codecs get.

Shapes as in ``kdcache.batch``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from kdcache.batch import LatticeBatch, PosteriorBatch, VectorBatch
from kdcache.codec import Int8VectorCodec, LatticeCodec, PosteriorCodec
from kdcache.codec.ids import ABSENT, unpack_ids
from kdcache.codec.starts import unpack_starts
from kdcache.stream.collate import collate_records
from kdcache.stream.pad import clear_padding, pad, widest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kdcache.batch import TargetBatch
    from kdcache.codec import RecordCodec

    Columns = Mapping[str, np.ndarray]


def collate_packed(codec: RecordCodec, parts: Sequence[Columns]) -> TargetBatch:
    """Decode and pad the columns of a target, at least one utterance's.

    Args:
        codec: of the target.
        parts: its columns by name, one mapping an utterance.
    """
    if isinstance(codec, PosteriorCodec) and _posteriors_are_alike(parts):
        return _posteriors(codec, parts)
    if isinstance(codec, LatticeCodec):
        return _lattices(codec, parts)
    if isinstance(codec, Int8VectorCodec):
        return _vectors(parts)
    return collate_records([codec.decode(columns) for columns in parts])


def _posteriors_are_alike(parts: Sequence[Columns]) -> bool:
    """Rows of one width, whose rest has one place, with their ids beside them."""
    return len({p["logp"].shape[1] for p in parts}) == 1 and all("ids" in p for p in parts)


def _posteriors(codec: PosteriorCodec, parts: Sequence[Columns]) -> PosteriorBatch:
    codes = [columns["logp"] for columns in parts]
    logp_BNC = codec.quantiser.decode(pad(codes, 0))
    clear_padding(logp_BNC, codes, 1)
    ids_BNK = unpack_ids(pad([columns["ids"] for columns in parts], ABSENT))
    return PosteriorBatch(
        torch.from_numpy(logp_BNC), torch.from_numpy(ids_BNK).long(), _lengths(codes)
    )


def _lattices(codec: LatticeCodec, parts: Sequence[Columns]) -> LatticeBatch:
    codes = [columns["logp"] for columns in parts]
    logp_BTSC = codec.quantiser.decode(pad(codes, 0))
    clear_padding(logp_BTSC, codes, 2)
    starts = [_starts(columns) for columns in parts]
    banded = any("starts" in columns for columns in parts)
    return LatticeBatch(
        torch.from_numpy(logp_BTSC),
        _lattice_ids(parts, logp_BTSC.shape),
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


def _lattice_ids(parts: Sequence[Columns], shape: tuple[int, ...]) -> torch.Tensor:
    if not any("ids" in columns for columns in parts):
        return torch.empty((*shape[:3], 0), dtype=torch.int64)
    none = np.empty((0, 0, 0), np.uint16)
    return torch.from_numpy(unpack_ids(pad([p.get("ids", none) for p in parts], ABSENT))).long()


def _vectors(parts: Sequence[Columns]) -> VectorBatch:
    codes = [columns["values"] for columns in parts]
    values_BTD = np.zeros((len(parts), *widest(codes)), np.float32)
    for row_TD, columns in zip(values_BTD, parts, strict=True):
        frames, width = columns["values"].shape
        np.multiply(columns["values"], columns["scale"], out=row_TD[:frames, :width])
    return VectorBatch(torch.from_numpy(values_BTD), _lengths(codes))


def _lengths(arrays: Sequence[np.ndarray]) -> torch.Tensor:
    return torch.tensor([len(array) for array in arrays], dtype=torch.int64)
