"""What a codec is: numpy arrays of a decoded target ↔ the arrays that a store keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from kdcache.codec.records import Record


@dataclass(frozen=True, slots=True)
class ColumnSpec:
    """How one stored array looks in every utterance of a cache.

    Attributes:
        dtype: numpy dtype name, stored little-endian, such as ``uint8``.
        ndim: number of axes, at least 1; their lengths vary by utterance.
        optional: an utterance may lack it.
    """

    dtype: str
    ndim: int
    optional: bool = False

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {"dtype": self.dtype, "ndim": self.ndim, "optional": self.optional}


@runtime_checkable
class RecordCodec(Protocol):
    """Packs one kind of record. Third parties implement this; it holds settings, no state.

    ``encode`` is deterministic, and ``decode(encode(r))`` is within ``error_bound(r)`` of
    ``r``. Nothing more is promised of a second round trip: a decoded distribution is
    normalised, which moves every class by up to the bound, so that encoding it again may
    give neighbouring codes. Whoever copies a cache copies the stored arrays instead.
    """

    def columns(self) -> dict[str, ColumnSpec]:
        """The arrays it makes, by name."""
        ...

    def encode(self, record: Record) -> dict[str, np.ndarray]:
        """Arrays to store, C-contiguous, as :meth:`columns` says."""
        ...

    def decode(self, columns: Mapping[str, np.ndarray]) -> Record:
        """Inverse of :meth:`encode`, within :meth:`error_bound`."""
        ...

    def error_bound(self, record: Record) -> np.ndarray:
        """Largest |decoded − given| of each element of ``logp`` or ``values``; same shape."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready settings, ``name`` among them."""
        ...
