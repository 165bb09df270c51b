"""Packs posteriors of frames or tokens: a quantised log-probability and a 16-bit id a slot.

Where the slots of every row are the classes 0, 1, 2, … in this order, as of a target that keeps
all classes, ids are implied and not stored.

Shapes: N frames or tokens, K kept classes; the rest is the last of K+1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kdcache.codec.ids import pack_ids, unpack_ids
from kdcache.codec.protocol import ColumnSpec
from kdcache.codec.records import PosteriorRecord
from kdcache.errors import TeacherOutputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kdcache.codec.logprob import LogProbQuantiser
    from kdcache.codec.records import Record


@dataclass(frozen=True)
class PosteriorCodec:
    """Columns ``logp`` (N, K+1) and, unless they are implied, ``ids`` uint16 (N, K).

    Bound: that of the quantiser; ids are exact.
    """

    quantiser: LogProbQuantiser

    def columns(self) -> dict[str, ColumnSpec]:
        """``ids`` is optional: implied where every class has its own slot."""
        return {
            "logp": ColumnSpec(self.quantiser.dtype, 2),
            "ids": ColumnSpec("uint16", 2, optional=True),
        }

    def encode(self, record: Record) -> dict[str, np.ndarray]:
        """Codes and ids.

        Raises:
            TeacherOutputError: shapes that do not fit, NaN or a positive log-probability.
            ConfigError: ids that 16 bits do not hold.
        """
        record = parse_posterior(record)
        columns = {"logp": self.quantiser.encode(record.logp_NC)}
        if not _are_implied(record):
            columns["ids"] = pack_ids(record.ids_NK)
        return columns

    def decode(self, columns: Mapping[str, np.ndarray]) -> PosteriorRecord:
        """Normalised float32 log-probabilities and int32 ids."""
        logp_NC = self.quantiser.decode(columns["logp"])
        if "ids" in columns:
            return PosteriorRecord(logp_NC, unpack_ids(columns["ids"]))
        rows, kept = logp_NC.shape[0], logp_NC.shape[1] - 1
        return PosteriorRecord(logp_NC, np.tile(np.arange(kept, dtype=np.int32), (rows, 1)))

    def error_bound(self, record: Record) -> np.ndarray:
        """float32 (N, K+1)."""
        return self.quantiser.error_bound(parse_posterior(record).logp_NC)

    def to_dict(self) -> dict[str, Any]:
        """The quantiser's settings."""
        return self.quantiser.to_dict()


def _are_implied(record: PosteriorRecord) -> bool:
    """Slot i is class i in every row, and no class is left over."""
    ids_NK, nothing_left = record.ids_NK, np.isneginf(record.logp_NC[:, -1]).all()
    in_order = ids_NK.size > 0 and (ids_NK == np.arange(ids_NK.shape[1])).all()
    return bool(in_order and nothing_left)


def parse_posterior(record: Record) -> PosteriorRecord:
    """``record``, whose shapes fit; TeacherOutputError where it is anything else."""
    if not isinstance(record, PosteriorRecord):
        raise TeacherOutputError(f"expected a PosteriorRecord, got {type(record).__name__}")
    logp, ids = record.logp_NC.shape, record.ids_NK.shape
    if len(logp) != 2 or len(ids) != 2 or (logp[0], logp[1] - 1) != ids:
        raise TeacherOutputError(
            f"expected posteriors of shapes (N, K+1) and (N, K), got {logp} and {ids}"
        )
    return record
