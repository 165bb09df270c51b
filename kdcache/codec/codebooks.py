"""Codebooks: a vector as a sum of one entry of each, so that a frame takes a byte a codebook.

With Q codebooks of 256 entries a vector x is kept as the entries i_1 … i_Q for which

    ‖ x − center − Σ_q c_q[i_q] ‖²

is small. To find the very smallest takes 256^Q trials; here each codebook in turn takes the entry
that is best after those before it, then each the best beside all others, a few times over. One
product of the vectors with all entries, and one of the entries with each other, made once, give
all the distances.

The codebooks are trained once for a cache (``kdcache.target.codebooks``) and are part of the
codec's settings. Entries are stored in a byte a channel, with a scale per codebook and channel.

Shapes: Q codebooks, E = 256 entries, D channels, T frames.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from kdcache.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

ENTRIES = 256
"""E: an index is a byte."""

MOST = 32
"""Codebooks that there may be: the products of their entries with each other take 268 MB."""

_KIND = "additive"
_LARGEST = 127
_ROUNDS = 2
"""How often each codebook may choose again; a third time changes next to nothing."""
_BLOCK = 256
"""Frames whose distances are in memory at once."""


@dataclass(frozen=True, eq=False)
class Codebooks:
    """What vectors are sums of.

    Attributes:
        entries_QED: int8.
        scale_QD: float32; an entry is its int8 times this.
        center_D: float32, added to every sum.
    """

    entries_QED: np.ndarray
    scale_QD: np.ndarray
    center_D: np.ndarray

    @classmethod
    def from_values(cls, values_QED: np.ndarray, center_D: np.ndarray) -> Codebooks:
        """Quantise entries: a channel's largest of a codebook becomes 127."""
        scale_QD = (np.abs(values_QED).max(axis=1) / _LARGEST).astype(np.float32)
        divisor_QD = np.where(scale_QD > 0, scale_QD, np.float32(1))
        entries_QED = np.rint(values_QED / divisor_QD[:, None]).clip(-_LARGEST, _LARGEST)
        return cls(entries_QED.astype(np.int8), scale_QD, center_D.astype(np.float32))

    @property
    def count(self) -> int:
        """Q."""
        return int(self.entries_QED.shape[0])

    @property
    def width(self) -> int:
        """D."""
        return int(self.entries_QED.shape[2])

    @cached_property
    def values(self) -> np.ndarray:
        """float32 entries."""
        values: np.ndarray = self.entries_QED * self.scale_QD[:, None]
        return values

    def assign(self, values_TD: np.ndarray) -> np.ndarray:
        """The entries that vectors are sums of, nearly: uint8 (T, Q).

        Of entries that are as near the one with the smaller index is taken.
        """
        blocks = [values_TD[at : at + _BLOCK] for at in range(0, len(values_TD), _BLOCK)]
        none = np.zeros((0, self.count), np.uint8)
        return np.concatenate([none, *(self._assign(block) for block in blocks)])

    def sums(self, codes_TQ: np.ndarray) -> np.ndarray:
        """The vectors that entries stand for: float32 (T, D)."""
        sum_TD = np.tile(self.center_D, (len(codes_TQ), 1))
        for book_ED, codes_T in zip(self.values, codes_TQ.T, strict=True):
            sum_TD += book_ED[codes_T]
        return sum_TD

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: sizes, and the arrays in base 64."""
        return {
            "kind": _KIND,
            "count": self.count,
            "width": self.width,
            "entries": _text(self.entries_QED),
            "scale": _text(self.scale_QD.astype("<f4")),
            "center": _text(self.center_D.astype("<f4")),
        }

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Codebooks:
        """Inverse of :meth:`to_dict`.

        Raises:
            ConfigError: it is no such table.
        """
        try:
            count, width = int(given["count"]), int(given["width"])
            if given["kind"] != _KIND or not 1 <= count <= MOST or width < 1:
                raise ValueError(f"{given['kind']}, {count} × {width}")
            books = cls(
                _array(given["entries"], "i1", (count, ENTRIES, width)),
                _array(given["scale"], "<f4", (count, width)).astype(np.float32),
                _array(given["center"], "<f4", (width,)).astype(np.float32),
            )
        except (KeyError, TypeError, ValueError, binascii.Error) as error:
            raise ConfigError(f"a codec's table holds no codebooks: {error!r}") from error
        if not np.isfinite(books.scale_QD).all() or not np.isfinite(books.center_D).all():
            raise ConfigError("a codec's codebooks hold NaN or infinity")
        return books

    @cached_property
    def _between(self) -> np.ndarray:
        """2 c·c' of all pairs of entries: float32 (Q, E, Q, E)."""
        flat = self.values.reshape(-1, self.width)
        product: np.ndarray = (2 * flat) @ flat.T
        return product.reshape(self.count, ENTRIES, self.count, ENTRIES)

    def _assign(self, values_TD: np.ndarray) -> np.ndarray:
        flat = self.values.reshape(-1, self.width)
        with np.errstate(over="ignore", invalid="ignore"):  # vectors beyond all measure
            alone = np.square(flat).sum(-1) - 2 * (values_TD - self.center_D) @ flat.T
            distance_TQE = alone.reshape(-1, self.count, ENTRIES)
            codes_TQ = np.zeros(distance_TQE.shape[:2], np.uint8)
            for book in range(self.count):
                codes_TQ[:, book] = distance_TQE[:, book].argmin(-1)
                distance_TQE += self._between[book, codes_TQ[:, book]]
            for _ in range(_ROUNDS):
                if not self._choose_again(distance_TQE, codes_TQ):
                    break
        return codes_TQ

    def _choose_again(self, distance_TQE: np.ndarray, codes_TQ: np.ndarray) -> bool:
        """Let each codebook take its best entry beside all others; whether any is another.

        Args:
            distance_TQE: squared distance by each entry, given the present ones of all
                codebooks, less what is the same for all entries of a codebook; kept up.
            codes_TQ: the present entries; changed in place.
        """
        changed = False
        for book in range(self.count):
            old_T = codes_TQ[:, book].copy()
            own_TE = self._between[book, old_T, book]
            new_T = (distance_TQE[:, book] - own_TE).argmin(-1).astype(np.uint8)
            moved = np.flatnonzero(new_T != old_T)
            if len(moved):
                new, old = new_T[moved], old_T[moved]
                distance_TQE[moved] += self._between[book, new] - self._between[book, old]
                codes_TQ[moved, book] = new
                changed = True
        return changed


def _text(array: np.ndarray) -> str:
    return base64.b64encode(array.tobytes()).decode()


def _array(text: str, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text, validate=True), dtype).reshape(shape)
