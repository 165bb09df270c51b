"""Packs vectors as entries of codebooks: a byte a frame and codebook.

Shapes: T frames, D channels, Q codebooks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from kdcache.codec.codebooks import MOST, Codebooks
from kdcache.codec.protocol import ColumnSpec
from kdcache.codec.records import VectorRecord
from kdcache.codec.vector import parse_vectors
from kdcache.errors import ConfigError, TeacherOutputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kdcache.codec.records import Record

_ROUNDING = np.float32(2.0**-20)


@dataclass(frozen=True)
class CodebookVectorCodec:
    """Column ``codes`` uint8 (T, Q). Bound: what the very record loses, since no other is known.

    Attributes:
        count: Q, 1 to 32.
        table: the codebooks; ``None`` where they are still to be trained.
    """

    count: int = 8
    table: dict[str, Any] | None = None

    name: ClassVar[str] = "codebooks"

    def __post_init__(self) -> None:
        if type(self.count) is not int or not 1 <= self.count <= MOST:
            raise ConfigError(f"count is {self.count!r}; expected an integer from 1 to {MOST}.")
        if self.table is not None and self.books.count != self.count:
            raise ConfigError(
                f"count is {self.count}, but the table holds {self.books.count} codebooks; leave "
                "one of them out."
            )

    @cached_property
    def books(self) -> Codebooks:
        """The codebooks.

        Raises:
            ConfigError: there are none yet, or the table is none.
        """
        if self.table is None:
            raise ConfigError(
                "codebooks are to be trained on a teacher's vectors first, as extraction does; to "
                "pack a cache that is there, give their table"
            )
        if not isinstance(self.table, dict):
            raise ConfigError(f"table is {self.table!r}; expected codebooks, or nothing.")
        return Codebooks.from_dict(self.table)

    def columns(self) -> dict[str, ColumnSpec]:
        """One column."""
        return {"codes": ColumnSpec("uint8", 2)}

    def encode(self, record: Record) -> dict[str, np.ndarray]:
        """Entries.

        Raises:
            TeacherOutputError: a shape that does not fit, NaN or infinity.
            ConfigError: the codebooks are still to be trained.
        """
        return {"codes": np.ascontiguousarray(self.books.assign(self._parse(record)))}

    def decode(self, columns: Mapping[str, np.ndarray]) -> VectorRecord:
        """float32 sums, and the entries."""
        codes_TQ = columns["codes"]
        return VectorRecord(self.books.sums(codes_TQ), codes_TQ)

    def error_bound(self, record: Record) -> np.ndarray:
        """float32 (T, D): the error, and a little for rounding."""
        values_TD = self._parse(record)
        decoded_TD = self.books.sums(self.books.assign(values_TD))
        bound_TD: np.ndarray = np.abs(values_TD - decoded_TD)
        bound_TD += _ROUNDING * (np.abs(values_TD) + np.abs(decoded_TD))
        return bound_TD

    def to_dict(self) -> dict[str, Any]:
        """``count``, and ``table`` where there is one."""
        table = {} if self.table is None else {"table": self.table}
        return {"name": self.name, "count": self.count, **table}

    def _parse(self, record: Record) -> np.ndarray:
        values_TD = parse_vectors(record)
        if values_TD.shape[1] != self.books.width:
            raise TeacherOutputError(
                f"expected vectors of the {self.books.width} channels that the codebooks were "
                f"trained on, got {values_TD.shape[1]}"
            )
        return values_TD
