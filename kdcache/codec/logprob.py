"""Scalar quantisers of log-probabilities: one code a class, normalised again on decoding.

Notable features
- Zero probability (−inf) has a code of its own and stays zero.
- Decoding normalises over the last axis, so that a student always sees a distribution.
- The error is bounded per element, and the bound can be computed from the input.

The bound. Let l be the given log-probabilities, l' = l + δ what the codes stand for, and
|δ_k| ≤ e_k the quantiser's step error. Decoding gives l'' = l' − Z with Z = log Σ exp(l').
Since l − e ≤ l' ≤ l + e, also log Σ exp(l − e) ≤ Z ≤ log Σ exp(l + e), hence

    |l''_k − l_k| ≤ e_k + max(log Σ exp(l + e), −log Σ exp(l − e)).

For a normalised l the second term is about Σ p_k e_k: the mean step error, which is far
below the largest one, because probable classes have the finest steps.

Shapes: C classes; leading axes are free. R rows of classes, all leading axes in one;
E = R·C elements, P pairs of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Protocol

import numpy as np

from kdcache.errors import ConfigError, TeacherOutputError

POSITIVE_TOLERANCE = 1e-3
"""Log-probabilities may exceed 0 by a half-precision rounding; beyond, they are not any."""

_FLOAT32_SLACK = 2.0**-19
_TINY = np.float32(1e-45)
_BLOCK = 1 << 15
"""Codes that are looked up at a time, so that what is made of them in between stays in cache."""

_ADDED = 1 << 13
"""Classes of a row up to which numpy adds up each row of some as it would that row alone."""


class LogProbQuantiser(Protocol):
    """Packs log-probabilities into one number each."""

    @property
    def dtype(self) -> str:
        """numpy dtype name of a code."""
        ...

    def encode(self, logp: np.ndarray) -> np.ndarray:
        """Codes of natural log-probabilities (..., C), C-contiguous.

        Raises:
            TeacherOutputError: NaN, a positive value, or a row without any probability.
        """
        ...

    def decode(self, codes: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """float32 log-probabilities, normalised over the last axis.

        Args:
            codes: (..., C).
            out: where to put them: float32, C-contiguous, of the same shape.
        """
        ...

    def error_bound(self, logp: np.ndarray) -> np.ndarray:
        """float32 (..., C): largest |decoded − given| of each element."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready settings, ``name`` among them."""
        ...


def parse_logp(logp: np.ndarray) -> np.ndarray:
    """``logp`` as float32, checked at the edge: rows of log-probabilities, no NaN."""
    logp = np.asarray(logp, np.float32)
    if logp.ndim == 0 or logp.shape[-1] == 0:
        raise TeacherOutputError(f"expected log-probabilities over classes, got {logp.shape}")
    peak = logp.max(axis=-1)
    if np.isnan(peak).any():
        raise TeacherOutputError("NaN among the log-probabilities: the teacher's output is broken")
    if (peak > POSITIVE_TOLERANCE).any():
        raise TeacherOutputError(
            f"expected log-probabilities of at most 0, got {peak.max():.4g}: normalise first"
        )
    if np.isneginf(peak).any():
        raise TeacherOutputError("a row of log-probabilities has no class above zero probability")
    capped: np.ndarray = np.minimum(logp, np.float32(0))
    return capped


def renormalised_bound(logp: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Bound after normalising, from the step errors; the derivation heads this file.

    Args:
        logp: float32 (..., C).
        step: (..., C) largest |δ| of each element; ignored where ``logp`` is −inf.

    Returns:
        float32 (..., C), float32 rounding included; 0 where ``logp`` is −inf.
    """
    exact = np.where(np.isneginf(logp), 0.0, np.asarray(logp, np.float64))
    mass = ~np.isneginf(logp)
    step = np.where(mass, step, 0.0)
    above = np.log(np.where(mass, np.exp(exact + step), 0.0).sum(-1, keepdims=True))
    below = np.log(np.where(mass, np.exp(exact - step), 0.0).sum(-1, keepdims=True))
    rounding = _FLOAT32_SLACK * (1.0 - exact) + logp.shape[-1] * 2.0**-24
    bound = step + np.maximum(above, -below) + rounding
    return np.where(mass, bound, 0.0).astype(np.float32)


def _pairs(table: np.ndarray) -> np.ndarray:
    """What two codes that lie side by side stand for: two float32 in each of 65,536 int64."""
    codes_P2 = np.arange(1 << 16, dtype=np.uint16).view(np.uint8).reshape(-1, 2)
    return np.ascontiguousarray(table[codes_P2]).view(np.int64).reshape(-1)


@dataclass(frozen=True)
class Fp16LogProb:
    """Half-precision log-probabilities: two bytes a class.

    Step error: e = 2⁻¹¹·|l| + 2⁻²⁵ (half a unit in the last place) down to −65504 nats,
    where values are clipped. After normalising: as the file's head derives.
    """

    name: ClassVar[str] = "fp16"
    dtype: ClassVar[str] = "float16"
    lowest: ClassVar[float] = -65504.0

    def encode(self, logp: np.ndarray) -> np.ndarray:
        """float16 (..., C); −inf stays −inf."""
        logp = parse_logp(logp)
        clipped = np.where(np.isneginf(logp), logp, np.maximum(logp, np.float32(self.lowest)))
        return np.ascontiguousarray(clipped.astype(np.float16))

    def decode(self, codes: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """float32 (..., C), normalised."""
        logp: np.ndarray = np.empty(codes.shape, np.float32) if out is None else out
        logp[...] = codes
        logp -= np.maximum(logp.max(axis=-1, keepdims=True), np.float32(self.lowest))
        total = np.exp(logp).sum(axis=-1, keepdims=True, dtype=np.float32)
        logp -= np.log(np.maximum(total, _TINY))
        return logp

    def error_bound(self, logp: np.ndarray) -> np.ndarray:
        """float32 (..., C)."""
        logp = parse_logp(logp)
        depth = np.where(np.isneginf(logp), 0.0, -logp.astype(np.float64))
        clipped = np.maximum(depth + self.lowest, 0.0)
        return renormalised_bound(logp, depth * 2.0**-11 + 2.0**-25 + clipped)

    def to_dict(self) -> dict[str, Any]:
        """``{"name": "fp16"}``."""
        return {"name": self.name}


@dataclass(frozen=True)
class Log8LogProb:
    """Companded 8-bit log-probabilities: |l| = floor·(c/254)², finest near probability 1.

    Code 255 is zero probability; what lies below −floor is raised to −floor. Step error:
    with u = 254·√(|l|/floor) and c = round(u), |c − u| ≤ ½, so

        |δ| = floor/254² · |c − u|·|c + u| ≤ floor/254² · ½·(2u + ½)
            = √(floor·|l|)/254 + floor/(4·254²),

    and |l| − floor below the floor. After normalising: as the file's head derives.

    Attributes:
        floor: nats, 1 to 80. Larger keeps rarer classes, with coarser steps.
    """

    floor: float = 16.0

    name: ClassVar[str] = "log8"
    dtype: ClassVar[str] = "uint8"
    steps: ClassVar[int] = 254
    zero: ClassVar[int] = 255

    def __post_init__(self) -> None:
        given: object = self.floor
        if isinstance(given, bool) or not isinstance(given, int | float) or not 1 <= given <= 80:
            raise ConfigError(f"codec log8 expects a floor from 1 to 80 nats, got {given!r}")
        object.__setattr__(self, "floor", float(given))

    @cached_property
    def _table(self) -> np.ndarray:
        """What each code stands for: float32 (256,)."""
        table = -self.floor * (np.arange(256) / self.steps) ** 2
        table[self.zero] = -np.inf
        return table.astype(np.float32)

    @cached_property
    def _probability(self) -> np.ndarray:
        probability: np.ndarray = np.exp(self._table)
        return probability

    @cached_property
    def _pairs(self) -> np.ndarray:
        return _pairs(self._table)

    @cached_property
    def _pairs_of_probability(self) -> np.ndarray:
        return _pairs(self._probability)

    def encode(self, logp: np.ndarray) -> np.ndarray:
        """uint8 (..., C)."""
        logp = parse_logp(logp)
        depth = np.minimum(-logp, np.float32(self.floor)) / np.float32(self.floor)
        codes = np.rint(self.steps * np.sqrt(depth)).astype(np.uint8)
        codes[np.isneginf(logp)] = self.zero
        return np.ascontiguousarray(codes)

    def decode(self, codes: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """float32 (..., C), normalised."""
        logp = np.empty(codes.shape, np.float32) if out is None else out
        rows, classes = math.prod(codes.shape[:-1]), codes.shape[-1]
        codes_RC, logp_RC = codes.reshape(rows, classes), logp.reshape(rows, classes)
        step = 1 if classes > _ADDED else min(_BLOCK // max(1, classes), rows)
        pairs_P = np.empty(step * classes // 2, np.intp)
        for start in range(0, rows, max(1, step)):
            block = slice(start, start + step)
            self._decode_rows(codes_RC[block], logp_RC[block], pairs_P)
        return logp

    def _decode_rows(self, codes_RC: np.ndarray, logp_RC: np.ndarray, pairs_P: np.ndarray) -> None:
        # Of the ways to look up and to add a few numbers, these were measured as the fastest;
        # numpy would turn codes into indices in each lookup anew. No code is off the tables.
        codes_E, logp_E = np.ascontiguousarray(codes_RC).reshape(-1), logp_RC.reshape(-1)
        paired = len(codes_E) // 2 * 2
        pairs_P, found_P = pairs_P[: paired // 2], logp_E[:paired].view(np.int64)
        pairs_P[...] = codes_E[:paired].view(np.uint16)
        np.take(self._pairs_of_probability, pairs_P, out=found_P, mode="wrap")
        logp_E[paired:] = self._probability[codes_E[paired:]]
        total_R = np.einsum("rc->r", logp_RC)
        np.take(self._pairs, pairs_P, out=found_P, mode="wrap")
        logp_E[paired:] = self._table[codes_E[paired:]]
        logp_RC -= np.log(np.maximum(total_R, _TINY))[:, None]

    def error_bound(self, logp: np.ndarray) -> np.ndarray:
        """float32 (..., C)."""
        logp = parse_logp(logp)
        depth = np.where(np.isneginf(logp), 0.0, -logp.astype(np.float64))
        kept = np.minimum(depth, self.floor)
        step = np.sqrt(self.floor * kept) / self.steps + self.floor / (4 * self.steps**2)
        return renormalised_bound(logp, step + (depth - kept))

    def to_dict(self) -> dict[str, Any]:
        """``{"name": "log8", "floor": …}``."""
        return {"name": self.name, "floor": self.floor}
