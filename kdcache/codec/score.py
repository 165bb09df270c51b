"""Keeps one number an utterance as it is: four bytes are not worth packing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from kdcache.codec.protocol import ColumnSpec
from kdcache.codec.records import ScoreRecord
from kdcache.errors import TeacherOutputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kdcache.codec.records import Record


@dataclass(frozen=True)
class Fp32ScoreCodec:
    """Column ``scores`` float32 (1,). Bound: 0."""

    name: ClassVar[str] = "fp32"

    def columns(self) -> dict[str, ColumnSpec]:
        """One column."""
        return {"scores": ColumnSpec("float32", 1)}

    def encode(self, record: Record) -> dict[str, np.ndarray]:
        """The number.

        Raises:
            TeacherOutputError: there is not exactly one, or it is NaN or +inf.
        """
        return {"scores": np.ascontiguousarray(_parse(record))}

    def decode(self, columns: Mapping[str, np.ndarray]) -> ScoreRecord:
        """The number."""
        return ScoreRecord(columns["scores"])

    def error_bound(self, record: Record) -> np.ndarray:
        """float32 (1,): 0."""
        return np.zeros_like(_parse(record))

    def to_dict(self) -> dict[str, Any]:
        """``{"name": "fp32"}``."""
        return {"name": self.name}


def check_scores(scores_H: np.ndarray) -> None:
    """Raise TeacherOutputError where there is NaN or +inf among log-probabilities."""
    if np.isnan(scores_H).any() or np.isposinf(scores_H).any():
        raise TeacherOutputError("NaN or +inf among the scores: the teacher is broken")


def _parse(record: Record) -> np.ndarray:
    if not isinstance(record, ScoreRecord):
        raise TeacherOutputError(f"expected a ScoreRecord, got {type(record).__name__}")
    score_1 = np.asarray(record.score_1, np.float32)
    if score_1.shape != (1,):
        raise TeacherOutputError(f"expected one score, got an array of shape {score_1.shape}")
    check_scores(score_1)
    return score_1
