"""Packs lattices: a quantised log-probability a class, 16-bit ids of the K more classes.

Shapes: T encoder frames, U labels, K more classes, C = 3+K classes of a node.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kdcache.codec.ids import pack_ids, unpack_ids
from kdcache.codec.protocol import ColumnSpec
from kdcache.codec.records import LatticeRecord
from kdcache.errors import TeacherOutputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kdcache.codec.logprob import LogProbQuantiser
    from kdcache.codec.records import Record

SPECIAL_CLASSES = 3
"""Blank, next label and rest have places of their own and need no id."""


@dataclass(frozen=True)
class LatticeCodec:
    """Columns ``logp`` (T, U+1, 3+K) and, where K > 0, ``ids`` uint16 (T, U+1, K).

    Bound: that of the quantiser; ids are exact.
    """

    quantiser: LogProbQuantiser

    def columns(self) -> dict[str, ColumnSpec]:
        """``ids`` is optional: a lattice of K = 0 has none."""
        return {
            "logp": ColumnSpec(self.quantiser.dtype, 3),
            "ids": ColumnSpec("uint16", 3, optional=True),
        }

    def encode(self, record: Record) -> dict[str, np.ndarray]:
        """Codes and ids.

        Raises:
            TeacherOutputError: shapes that do not fit, NaN or a positive log-probability.
            ConfigError: ids that 16 bits do not hold.
        """
        record = _parse(record)
        columns = {"logp": self.quantiser.encode(record.logp_TSC)}
        if record.ids_TSK.shape[-1]:
            columns["ids"] = pack_ids(record.ids_TSK)
        return columns

    def decode(self, columns: Mapping[str, np.ndarray]) -> LatticeRecord:
        """Normalised float32 log-probabilities and int32 ids."""
        logp_TSC = self.quantiser.decode(columns["logp"])
        if "ids" in columns:
            return LatticeRecord(logp_TSC, unpack_ids(columns["ids"]))
        return LatticeRecord(logp_TSC, np.empty((*logp_TSC.shape[:2], 0), np.int32))

    def error_bound(self, record: Record) -> np.ndarray:
        """float32 (T, U+1, 3+K)."""
        return self.quantiser.error_bound(_parse(record).logp_TSC)

    def to_dict(self) -> dict[str, Any]:
        """The quantiser's settings."""
        return self.quantiser.to_dict()


def _parse(record: Record) -> LatticeRecord:
    if not isinstance(record, LatticeRecord):
        raise TeacherOutputError(f"expected a LatticeRecord, got {type(record).__name__}")
    logp, ids = record.logp_TSC.shape, record.ids_TSK.shape
    if len(logp) != 3 or len(ids) != 3 or (*logp[:2], logp[2] - SPECIAL_CLASSES) != ids:
        raise TeacherOutputError(
            f"expected a lattice of shapes (T, U+1, 3+K) and (T, U+1, K), got {logp} and {ids}"
        )
    return record
