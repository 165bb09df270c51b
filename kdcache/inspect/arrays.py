"""Arrays of an utterance under plain names, for other programs: ``lattice.logp``, ``ctc.ids``.

Decoded, they are what ``cache[id]`` gives back (``kdcache.codec.records`` says what is in them);
packed, what is stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kdcache.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcache.store import Cache

DECODED: dict[str, dict[str, tuple[str, str]]] = {
    "lattice": {
        "logp": ("logp_TSC", "float32"),
        "ids": ("ids_TSK", "int32"),
        "starts": ("starts_T", "int32"),
    },
    "posterior": {"logp": ("logp_NC", "float32"), "ids": ("ids_NK", "int32")},
    "vector": {"values": ("values_TD", "float32"), "codes": ("codes_TQ", "uint8")},
    "score": {"score": ("score_1", "float32")},
    "hypotheses": {
        "scores": ("scores_H", "float32"),
        "lengths": ("lengths_H", "int32"),
        "ids": ("ids_L", "int32"),
    },
}
"""By kind of record and plain name: the record's attribute, and its dtype."""


class Arrays:
    """Arrays of a cache's utterances.

    Args:
        cache: an open cache.
        targets: names of those to give; all unless given.
        packed: as they are stored; else decoded.

    Raises:
        ConfigError: there is no such target.
    """

    def __init__(self, cache: Cache, targets: Sequence[str] = (), *, packed: bool = False) -> None:
        self._cache, self._packed = cache, packed
        known = [target.name for target in cache.spec.targets]
        for name in targets:
            if name not in known:
                raise ConfigError(
                    f"no target {name!r} in {cache.location}; it has: {', '.join(known)}."
                    f"{did_you_mean(name, known)}"
                )
        self._targets = [name for name in known if name in targets or not targets]

    @property
    def types(self) -> dict[str, np.dtype[Any]]:
        """dtypes by name, in the order of :meth:`read`; an utterance may lack some."""
        if self._packed:
            return {name: np.dtype(self._cache.columns[name].dtype) for name in self._stored()}
        return {
            f"{target}.{name}": np.dtype(dtype)
            for target in self._targets
            for name, (_, dtype) in DECODED[self._cache.spec.target(target).record].items()
        }

    @property
    def timed(self) -> frozenset[str]:
        """Names of decoded arrays whose first axis is encoder frames."""
        if self._packed:
            return frozenset()
        return frozenset(
            f"{target.name}.{name}"
            for target in self._cache.spec.targets
            for name, (attribute, _) in DECODED[target.record].items()
            if attribute.partition("_")[2][0] in "NT" and target.kind != "decoder_logits"
        )

    def read(self, key: str | int) -> dict[str, np.ndarray]:
        """Arrays of an utterance, by name.

        Raises:
            UnknownUtteranceError, DamagedCacheError: see ``Cache.read_columns``.
        """
        if self._packed:
            return self._cache.read_columns(key, self._stored())
        found = {}
        for target in self._targets:
            record = self._cache.read_target(key, target)
            for name, (attribute, dtype) in DECODED[self._cache.spec.target(target).record].items():
                array = getattr(record, attribute)
                if array is not None:
                    found[f"{target}.{name}"] = np.asarray(array, dtype)
        return found

    def _stored(self) -> list[str]:
        return [name for name in self._cache.columns if name.partition(".")[0] in self._targets]
