"""Packs a list of hypotheses: label ids one after the other, lengths and scores beside them.

Shapes: H hypotheses, L labels of all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from kdcache.codec.ids import pack_ids, unpack_ids
from kdcache.codec.protocol import ColumnSpec
from kdcache.codec.records import HypothesesRecord
from kdcache.codec.score import check_scores
from kdcache.errors import TeacherOutputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kdcache.codec.records import Record

_LONGEST = 65_535


@dataclass(frozen=True)
class Fp32HypothesesCodec:
    """Columns ``ids`` uint16 (L,), ``lengths`` uint16 (H,), ``scores`` float32 (H,). Bound: 0."""

    name: ClassVar[str] = "fp32"

    def columns(self) -> dict[str, ColumnSpec]:
        """Ids, lengths and scores."""
        return {
            "ids": ColumnSpec("uint16", 1),
            "lengths": ColumnSpec("uint16", 1),
            "scores": ColumnSpec("float32", 1),
        }

    def encode(self, record: Record) -> dict[str, np.ndarray]:
        """The three arrays.

        Raises:
            TeacherOutputError: lengths that do not fit, NaN or +inf among the scores.
            ConfigError: an id that 16 bits do not hold.
        """
        parsed = _parse(record)
        return {
            "ids": pack_ids(parsed.ids_L),
            "lengths": np.ascontiguousarray(parsed.lengths_H.astype(np.uint16)),
            "scores": np.ascontiguousarray(parsed.scores_H),
        }

    def decode(self, columns: Mapping[str, np.ndarray]) -> HypothesesRecord:
        """The list."""
        return HypothesesRecord(
            columns["scores"], columns["lengths"].astype(np.int32), unpack_ids(columns["ids"])
        )

    def error_bound(self, record: Record) -> np.ndarray:
        """float32 (H,): 0."""
        return np.zeros_like(_parse(record).scores_H)

    def to_dict(self) -> dict[str, Any]:
        """``{"name": "fp32"}``."""
        return {"name": self.name}


def _parse(record: Record) -> HypothesesRecord:
    if not isinstance(record, HypothesesRecord):
        raise TeacherOutputError(f"expected a HypothesesRecord, got {type(record).__name__}")
    scores_H = np.asarray(record.scores_H, np.float32)
    lengths_H, ids_L = np.asarray(record.lengths_H), np.asarray(record.ids_L)
    fits = scores_H.ndim == lengths_H.ndim == ids_L.ndim == 1 and len(scores_H) == len(lengths_H)
    if not fits or int(lengths_H.sum()) != len(ids_L) or int(lengths_H.min(initial=0)) < 0:
        raise TeacherOutputError(
            f"expected a length for each of {scores_H.shape} scores and {ids_L.shape} ids of so "
            f"many labels together, got {lengths_H.shape} lengths"
        )
    if int(lengths_H.max(initial=0)) > _LONGEST:
        raise TeacherOutputError(
            f"a hypothesis of {int(lengths_H.max()):,} labels is longer than the {_LONGEST:,} "
            "that fit; cut the utterance or drop it"
        )
    check_scores(scores_H)
    return HypothesesRecord(scores_H, lengths_H, ids_L)
