"""Scales of probabilities: which ones a code can stand for, and how far off that is.

``root`` is even in √p. That is where equal steps lose equally much: for small errors

    KL(p ‖ p̂) ≈ ½ Σ p (δ ln p)² = 2 Σ (δ√p)²,

so that steps of 2⁻ᵇ in √p lose about 2⁻²ᵇ/6 nats a class, whatever its probability, and a
class of √p below about a step is as well left to the rest. Rate-distortion theory asks for just
this: equal distortion in every component that is worth its bits, none in the others. Below one
step the scale goes on in halves of √p, so that no class is ever lost or off by more than a
third of √p.

``count`` is even in p, for distributions of N random draws, which it keeps exactly.

Code 0 is left for zero probability. Other codes grow with the probability.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from kdcache.errors import ConfigError

_HALVINGS = 32
"""Steps of √p below the evenly spaced ones: e⁻⁴⁴ times the smallest of these in p."""


@runtime_checkable
class Scale(Protocol):
    """Codes of probabilities and back."""

    @property
    def probability(self) -> np.ndarray:
        """What each code stands for: float64, increasing from 0."""
        ...

    def codes(self, logp: np.ndarray) -> np.ndarray:
        """int64 codes of finite float64 log-probabilities of at most 0; all are above 0."""
        ...

    def interval(self, logp: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Least and greatest probability that a code of ``logp`` may stand for, float64."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready settings, ``name`` among them."""
        ...


@dataclass(frozen=True)
class RootScale:
    """Even steps of 2⁻ᵇ in √p, then 32 halvings.

    Bound: √p is off by at most half a step and at most a third of itself; what lies below the
    smallest probability, 2⁻²ᵇ⁻⁶⁴, is raised to it.

    Attributes:
        bits: b, 2 to 12. One more is twice as fine and loses a quarter.
    """

    bits: int = 7

    name: ClassVar[str] = "root"

    def __post_init__(self) -> None:
        object.__setattr__(self, "bits", parse_integer("root", "bits", self.bits, 2, 12))

    @cached_property
    def probability(self) -> np.ndarray:
        """float64 (33 + 2ᵇ,)."""
        halved = 0.5 ** np.arange(_HALVINGS, 0, -1)
        even = np.arange(1, 2**self.bits + 1)
        roots = np.concatenate([[0.0], halved, even]) / 2**self.bits
        probability: np.ndarray = roots**2
        return probability

    def codes(self, logp: np.ndarray) -> np.ndarray:
        """The nearest root."""
        root = np.exp(0.5 * logp) * 2**self.bits
        halvings = np.floor(np.log2(0.75 / np.maximum(root, 1e-30))) + 1
        even = np.rint(root).clip(1, 2**self.bits)
        codes = np.where(root > 0.75, even, 1 - halvings) + _HALVINGS
        found: np.ndarray = codes.clip(1).astype(np.int64)
        return found

    def interval(self, logp: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(√p ∓ e)², e the smaller of half a step and √p/3."""
        root = np.exp(0.5 * logp)
        error = np.minimum(0.5 * 2.0**-self.bits, root / 3)
        raised = np.maximum(root + error, np.sqrt(self.probability[1]))
        return (root - error) ** 2, raised**2

    def to_dict(self) -> dict[str, Any]:
        """``{"name": "root", "bits": …}``."""
        return {"name": self.name, "bits": self.bits}


@dataclass(frozen=True)
class CountScale:
    """Counts of N: even steps of 1/N in p, at least one.

    Bound: 1/N in p; probabilities that are counts of N are exact.

    Attributes:
        samples: N, 1 to 4096.
    """

    samples: int = 50

    name: ClassVar[str] = "count"

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "samples", parse_integer("count", "samples", self.samples, 1, 4096)
        )

    @cached_property
    def probability(self) -> np.ndarray:
        """float64 (N + 1,)."""
        parts: np.ndarray = np.arange(self.samples + 1) / self.samples
        return parts

    def codes(self, logp: np.ndarray) -> np.ndarray:
        """The nearest count, at least 1."""
        counts = np.rint(np.exp(logp) * self.samples).clip(1, self.samples)
        codes: np.ndarray = counts.astype(np.int64)
        return codes

    def interval(self, logp: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """p ∓ half a step, and no less than one step where there is any."""
        p, half = np.exp(logp), 0.5 / self.samples
        return np.maximum(p - half, np.minimum(p, 2 * half)), np.maximum(p + half, 2 * half)

    def to_dict(self) -> dict[str, Any]:
        """``{"name": "count", "samples": …}``."""
        return {"name": self.name, "samples": self.samples}


def parse_integer(name: str, setting: str, given: object, low: int, high: int) -> int:
    """A codec's setting that is a whole number; ConfigError where it is anything else."""
    if isinstance(given, bool) or not isinstance(given, int) or not low <= given <= high:
        raise ConfigError(
            f"codec {name} expects {setting} to be an integer from {low} to {high:,}, got {given!r}"
        )
    return given
