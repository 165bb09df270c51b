"""Packs vectors: half precision, or 8 bits with a scale per channel and utterance.

Shapes: T frames, D channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from kdcache.codec.protocol import ColumnSpec
from kdcache.codec.records import VectorRecord
from kdcache.errors import TeacherOutputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kdcache.codec.records import Record

LARGEST_HALF = 65504.0

_TINY = np.finfo(np.float32).tiny
_SUBNORMAL = _TINY * np.float32(127)
"""Channels that never exceed this are stored as 0."""


@dataclass(frozen=True)
class Fp16VectorCodec:
    """Column ``values`` float16 (T, D). Bound: 2⁻¹¹·|x| + 2⁻²⁵, half a unit in the last place."""

    name: ClassVar[str] = "fp16"

    def columns(self) -> dict[str, ColumnSpec]:
        """One column."""
        return {"values": ColumnSpec("float16", 2)}

    def encode(self, record: Record) -> dict[str, np.ndarray]:
        """Half-precision values.

        Raises:
            TeacherOutputError: a shape that does not fit, NaN, infinity, or a value beyond
                the ±65504 that half precision holds.
        """
        values_TD = parse_vectors(record)
        largest = float(np.abs(values_TD).max(initial=0.0))
        if largest > LARGEST_HALF:
            raise TeacherOutputError(
                f"a value of ±{largest:.6g} does not fit codec fp16 (±{LARGEST_HALF:g}): use int8"
            )
        return {"values": np.ascontiguousarray(values_TD.astype(np.float16))}

    def decode(self, columns: Mapping[str, np.ndarray]) -> VectorRecord:
        """float32 values."""
        return VectorRecord(columns["values"].astype(np.float32))

    def error_bound(self, record: Record) -> np.ndarray:
        """float32 (T, D)."""
        bound_TD: np.ndarray = np.abs(parse_vectors(record)) * np.float32(2.0**-11)
        bound_TD += np.float32(2.0**-25)
        return bound_TD

    def to_dict(self) -> dict[str, Any]:
        """``{"name": "fp16"}``."""
        return {"name": self.name}


@dataclass(frozen=True)
class Int8VectorCodec:
    """Columns ``values`` int8 (T, D) and ``scale`` float32 (D,): x ≈ values·scale.

    The scale of a channel is its largest |x| in the utterance ÷ 127. Bound: scale/2 and
    float32 rounding, per channel.
    """

    name: ClassVar[str] = "int8"
    largest: ClassVar[int] = 127

    def columns(self) -> dict[str, ColumnSpec]:
        """Values and their scales."""
        return {"values": ColumnSpec("int8", 2), "scale": ColumnSpec("float32", 1)}

    def encode(self, record: Record) -> dict[str, np.ndarray]:
        """8-bit values and scales.

        Raises:
            TeacherOutputError: a shape that does not fit, NaN or infinity.
        """
        values_TD = parse_vectors(record)
        scale_D = self._scale(values_TD)
        divisor_D = np.where(scale_D > 0, scale_D, np.float32(1))
        codes_TD = np.clip(np.rint(values_TD / divisor_D), -self.largest, self.largest)
        return {"values": np.ascontiguousarray(codes_TD.astype(np.int8)), "scale": scale_D}

    def decode(self, columns: Mapping[str, np.ndarray]) -> VectorRecord:
        """float32 values."""
        return VectorRecord(columns["values"].astype(np.float32) * columns["scale"])

    def error_bound(self, record: Record) -> np.ndarray:
        """float32 (T, D)."""
        values_TD = parse_vectors(record)
        half_D: np.ndarray = self._scale(values_TD) * np.float32(0.5)
        rounding_TD: np.ndarray = np.abs(values_TD) * np.float32(2.0**-21) + _SUBNORMAL
        bound_TD: np.ndarray = half_D + rounding_TD
        return bound_TD

    def _scale(self, values_TD: np.ndarray) -> np.ndarray:
        scale_D = np.abs(values_TD).max(axis=0, initial=0.0) / np.float32(self.largest)
        # A subnormal scale has too few digits to divide by: such a channel is stored as 0.
        usable_D: np.ndarray = np.where(scale_D < _TINY, np.float32(0), scale_D)
        return usable_D

    def to_dict(self) -> dict[str, Any]:
        """``{"name": "int8"}``."""
        return {"name": self.name}


def parse_vectors(record: Record) -> np.ndarray:
    """The vectors of ``record``, float32 (T, D).

    Raises:
        TeacherOutputError: it holds none, a shape that does not fit, NaN or infinity.
    """
    if not isinstance(record, VectorRecord):
        raise TeacherOutputError(f"expected a VectorRecord, got {type(record).__name__}")
    values_TD = np.asarray(record.values_TD, np.float32)
    if values_TD.ndim != 2:
        raise TeacherOutputError(f"expected vectors of shape (T, D), got {values_TD.shape}")
    if not np.isfinite(values_TD).all():
        raise TeacherOutputError("NaN or infinity among the vectors: the teacher is broken")
    return values_TD
