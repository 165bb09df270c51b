"""A model of the rest: how the mass of the classes that a row does not keep lies among them.

Without one it is spread evenly. With one, class v of those that are left gets a share in
proportion to its weight m_v: one weight a class for the whole cache (``prior``), or a row of
weights for each class that is often the likeliest (``top``): what a frame of one sound leaves
over differs from what another does. The table is made once for a cache, from a sample of its
teacher, and is part of the codec's settings.

Weights are stored in a byte each: code c stands for exp(−16·c/255), so that a weight is off by
3.2 % at most and none is zero.

Shapes: R rows of weights (the first is for all classes without one of their own), V vocabulary,
N frames or tokens.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from kdcache.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

TAIL_KINDS = ("prior", "top")


@dataclass(frozen=True, eq=False)
class TailModel:
    """Weights of the classes that are left.

    Attributes:
        codes_RV: uint8.
        row_V: uint16, which row serves a frame whose likeliest class is v.
        kind: ``prior`` or ``top``, as it was asked for.
    """

    codes_RV: np.ndarray
    row_V: np.ndarray
    kind: str = "top"

    floor: ClassVar[float] = 16.0

    @classmethod
    def from_weights(
        cls, weights_RV: np.ndarray, row_V: np.ndarray, kind: str = "top"
    ) -> TailModel:
        """Quantise weights, of which only the ratios within a row matter; 0 becomes e⁻¹⁶."""
        largest_R1 = weights_RV.max(axis=1, keepdims=True)
        share_RV = weights_RV / np.where(largest_R1 > 0, largest_R1, 1.0)
        depth_RV = -np.log(share_RV.clip(np.exp(-cls.floor)))
        codes_RV = np.rint(depth_RV * (255 / cls.floor)).astype(np.uint8)
        return cls(codes_RV, row_V.astype(np.uint16), kind)

    @property
    def vocabulary(self) -> int:
        """V."""
        return int(self.codes_RV.shape[1])

    @cached_property
    def log_weights(self) -> np.ndarray:
        """float32 (R, V) logarithms of the weights, at most 0."""
        table = np.arange(256, dtype=np.float32) * np.float32(-self.floor / 255)
        weights: np.ndarray = table[self.codes_RV]
        return weights

    def rows_of(self, likeliest_N: np.ndarray) -> np.ndarray:
        """The row of each frame, from its likeliest class; the first where there is none."""
        rows_N: np.ndarray = np.where(likeliest_N < 0, 0, self.row_V[likeliest_N])
        return rows_N

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: sizes, and the arrays in base 64."""
        return {
            "kind": self.kind,
            "rows": self.codes_RV.shape[0],
            "vocabulary": self.vocabulary,
            "codes": base64.b64encode(self.codes_RV.tobytes()).decode(),
            "row_of": base64.b64encode(self.row_V.astype("<u2").tobytes()).decode(),
        }

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> TailModel:
        """Inverse of :meth:`to_dict`.

        Raises:
            ConfigError: it is no such table.
        """
        try:
            shape = int(given["rows"]), int(given["vocabulary"])
            codes = np.frombuffer(base64.b64decode(given["codes"], validate=True), np.uint8)
            row_of = np.frombuffer(base64.b64decode(given["row_of"], validate=True), "<u2")
            row_V = row_of.astype(np.uint16).reshape(shape[1])
            model = cls(codes.reshape(shape), row_V, str(given["kind"]))
        except (KeyError, TypeError, ValueError, binascii.Error) as error:
            raise ConfigError(f"a codec's tail is no table of weights: {error!r}") from error
        if shape[0] < 1 or int(model.row_V.max(initial=0)) >= shape[0]:
            raise ConfigError("a codec's tail refers to rows of weights that it does not have")
        return model


Tail = TailModel | str | None
"""A model, the kind of one that is still to be estimated, or none: spread evenly."""


def parse_tail(given: object) -> Tail:
    """A codec's setting ``tail``.

    Raises:
        ConfigError: it is neither a kind nor a table.
    """
    if given is None or isinstance(given, TailModel):
        return given
    if isinstance(given, dict):
        return TailModel.from_dict(given)
    if given in TAIL_KINDS:
        return str(given)
    raise ConfigError(f"tail is {given!r}; expected one of {', '.join(TAIL_KINDS)}, or null.")
