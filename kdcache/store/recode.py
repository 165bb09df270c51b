"""Packing decoded records again with another codec, and what that loses.

The loss is that of the new codec alone, against what the old one gave back: the teacher's own
numbers are not in a cache. Divergences of two lossy steps do not add up to a bound, so both
are recorded under names that say what they are: ``source_<measure>`` is what the source's
catalogue had (teacher → source), ``recode_<measure>`` the new loss (source → this cache).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from kdcache.codec.divergence import divergence

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kdcache.codec import Record, RecordCodec


@dataclass(frozen=True, slots=True)
class Recoding:
    """How one target is packed again.

    Attributes:
        name: of the target.
        old, new: its codecs.
    """

    name: str
    old: RecordCodec
    new: RecordCodec

    def apply(
        self, columns: Mapping[str, np.ndarray], fidelity: Mapping[str, float]
    ) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        """An utterance's columns and measures with this target's replaced.

        Args:
            columns: by ``<target>.<array>``, of all targets.
            fidelity: by ``<target>.<measure>``, of all targets.
        """
        prefix = f"{self.name}."
        own = {k.removeprefix(prefix): a for k, a in columns.items() if k.startswith(prefix)}
        record = self.old.decode(own)
        packed = self.new.encode(record)
        kept = {name: array for name, array in columns.items() if not name.startswith(prefix)}
        measures = {_renamed(name, prefix): value for name, value in fidelity.items()}
        lost = recoding_loss(record, self.new.decode(packed))
        return (
            kept | {f"{prefix}{name}": array for name, array in packed.items()},
            measures | {f"{prefix}recode_{name}": value for name, value in lost.items()},
        )


def recoding_loss(given: Record, found: Record) -> dict[str, float]:
    """Loss of one round trip, by measure.

    Returns:
        For log-probabilities ``kl_mean`` and ``kl_max``: KL(given ‖ found) of each
        distribution over its kept classes and rest, in nats. For other values
        ``error_mean`` and ``error_max``: the absolute error. Nothing where the classes are
        not the same ones in the same places, so that values cannot be compared.
    """
    pairs = {f.name: (getattr(given, f.name), getattr(found, f.name)) for f in fields(given)}
    arrays = {
        name: pair
        for name, pair in pairs.items()
        # Entries of codebooks are how one codec packs vectors; another has none.
        if isinstance(pair[0], np.ndarray) and not name.startswith("codes_")
    }
    if not all(_comparable(*pair) for pair in arrays.values()):
        return {}
    lost: dict[str, float] = {}
    for name, (one, other) in arrays.items():
        if name.startswith("logp_"):
            lost |= _summary("kl", divergence(one, other))
        elif one.dtype.kind == "f":
            lost |= _summary("error", np.abs(one.astype(np.float64) - other))
    return lost


def _comparable(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and (one.dtype.kind == "f" or np.array_equal(one, other))


def _summary(name: str, values: np.ndarray) -> dict[str, float]:
    if not values.size:
        return {f"{name}_mean": 0.0, f"{name}_max": 0.0}
    return {f"{name}_mean": float(values.mean()), f"{name}_max": float(values.max())}


def _renamed(measure: str, prefix: str) -> str:
    own = measure.startswith(prefix)
    return f"{prefix}source_{measure.removeprefix(prefix)}" if own else measure
