"""Packs top-k posteriors of frames or tokens: quantised log-probabilities, 16-bit ids.

Shapes: N frames or tokens, K kept classes; the rest is the last of K+1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kdcache.codec.ids import pack_ids, unpack_ids
from kdcache.codec.protocol import ColumnSpec
from kdcache.codec.records import PosteriorRecord
from kdcache.errors import TeacherOutputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from kdcache.codec.logprob import LogProbQuantiser
    from kdcache.codec.records import Record


@dataclass(frozen=True)
class PosteriorCodec:
    """Columns ``logp`` (N, K+1) and ``ids`` uint16 (N, K).

    Bound: that of the quantiser; ids are exact.
    """

    quantiser: LogProbQuantiser

    def columns(self) -> dict[str, ColumnSpec]:
        """Both are in every utterance."""
        return {"logp": ColumnSpec(self.quantiser.dtype, 2), "ids": ColumnSpec("uint16", 2)}

    def encode(self, record: Record) -> dict[str, np.ndarray]:
        """Codes and ids.

        Raises:
            TeacherOutputError: shapes that do not fit, NaN or a positive log-probability.
            ConfigError: ids that 16 bits do not hold.
        """
        record = _parse(record)
        return {"logp": self.quantiser.encode(record.logp_NC), "ids": pack_ids(record.ids_NK)}

    def decode(self, columns: Mapping[str, np.ndarray]) -> PosteriorRecord:
        """Normalised float32 log-probabilities and int32 ids."""
        return PosteriorRecord(self.quantiser.decode(columns["logp"]), unpack_ids(columns["ids"]))

    def error_bound(self, record: Record) -> np.ndarray:
        """float32 (N, K+1)."""
        return self.quantiser.error_bound(_parse(record).logp_NC)

    def to_dict(self) -> dict[str, Any]:
        """The quantiser's settings."""
        return self.quantiser.to_dict()


def _parse(record: Record) -> PosteriorRecord:
    if not isinstance(record, PosteriorRecord):
        raise TeacherOutputError(f"expected a PosteriorRecord, got {type(record).__name__}")
    logp, ids = record.logp_NC.shape, record.ids_NK.shape
    if len(logp) != 2 or len(ids) != 2 or (logp[0], logp[1] - 1) != ids:
        raise TeacherOutputError(
            f"expected posteriors of shapes (N, K+1) and (N, K), got {logp} and {ids}"
        )
    return record
