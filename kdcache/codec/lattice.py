"""Packs lattices: a quantised log-probability a class, 16-bit ids of the K more classes, starts.

Shapes: T encoder frames, S columns of a frame's window (U+1 where the lattice is whole), K more
classes, C = 3+K classes of a node.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kdcache.codec.ids import pack_ids, unpack_ids
from kdcache.codec.protocol import ColumnSpec
from kdcache.codec.records import LatticeRecord
from kdcache.codec.starts import pack_starts, unpack_starts
from kdcache.errors import TeacherOutputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kdcache.codec.logprob import LogProbQuantiser
    from kdcache.codec.records import Record

SPECIAL_CLASSES = 3
"""Blank, next label and rest have places of their own and need no id."""


@dataclass(frozen=True)
class LatticeCodec:
    """Columns ``logp`` (T, S, 3+K); where K > 0, ``ids`` uint16 (T, S, K); of a band, ``starts``.

    Bound: that of the quantiser; ids and starts are exact.
    """

    quantiser: LogProbQuantiser

    def columns(self) -> dict[str, ColumnSpec]:
        """``ids`` and ``starts`` are optional: of K = 0, or of a whole lattice, there are none."""
        return {
            "logp": ColumnSpec(self.quantiser.dtype, 3),
            "ids": ColumnSpec("uint16", 3, optional=True),
            "starts": ColumnSpec("uint8", 1, optional=True),
        }

    def encode(self, record: Record) -> dict[str, np.ndarray]:
        """Codes, ids and starts.

        Raises:
            TeacherOutputError: shapes that do not fit, NaN or a positive log-probability.
            ConfigError: ids that 16 bits do not hold.
        """
        record = parse_lattice(record)
        columns = {"logp": self.quantiser.encode(record.logp_TSC)}
        if record.ids_TSK.shape[-1]:
            columns["ids"] = pack_ids(record.ids_TSK)
        if record.starts_T is not None:
            columns["starts"] = pack_starts(record.starts_T)
        return columns

    def decode(self, columns: Mapping[str, np.ndarray]) -> LatticeRecord:
        """Normalised float32 log-probabilities, int32 ids and starts."""
        logp_TSC = self.quantiser.decode(columns["logp"])
        ids_TSK, starts_T = np.empty((*logp_TSC.shape[:2], 0), np.int32), None
        if "ids" in columns:
            ids_TSK = unpack_ids(columns["ids"])
        if "starts" in columns:
            starts_T = unpack_starts(columns["starts"], len(logp_TSC))
        return LatticeRecord(logp_TSC, ids_TSK, starts_T)

    def error_bound(self, record: Record) -> np.ndarray:
        """float32 (T, S, 3+K)."""
        return self.quantiser.error_bound(parse_lattice(record).logp_TSC)

    def to_dict(self) -> dict[str, Any]:
        """The quantiser's settings."""
        return self.quantiser.to_dict()


def parse_lattice(record: Record) -> LatticeRecord:
    """``record``, whose shapes fit; TeacherOutputError where it is anything else."""
    if not isinstance(record, LatticeRecord):
        raise TeacherOutputError(f"expected a LatticeRecord, got {type(record).__name__}")
    logp, ids = record.logp_TSC.shape, record.ids_TSK.shape
    if len(logp) != 3 or len(ids) != 3 or (*logp[:2], logp[2] - SPECIAL_CLASSES) != ids:
        raise TeacherOutputError(
            f"expected a lattice of shapes (T, S, 3+K) and (T, S, K), got {logp} and {ids}"
        )
    if record.starts_T is not None and not _is_band(record.starts_T, *logp[:2]):
        raise TeacherOutputError(
            f"expected {logp[0]} starts of windows of {logp[1]} columns that begin with 0 and rise "
            f"by less than that, got {record.starts_T}"
        )
    return record


def _is_band(starts_T: np.ndarray, frames: int, width: int) -> bool:
    """Whether windows do not go down and share a column each with the next."""
    if starts_T.shape != (frames,) or starts_T[:1].any():
        return False
    step_T = np.diff(starts_T.astype(np.int64))
    return bool(((step_T >= 0) & (step_T < width)).all())
