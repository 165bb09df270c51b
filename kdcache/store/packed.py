"""What a writer is handed: utterances with their packed columns, and those that failed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from kdcache.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kdcache.codec import ColumnSpec
    from kdcache.types import Utterance


@dataclass(frozen=True, slots=True)
class PackedUtterance:
    """One utterance, ready to be stored.

    Attributes:
        utterance: as in the manifest.
        duration: seconds of audio, measured.
        tokens: label ids that the teacher was conditioned on.
        frames: encoder frames T.
        columns: packed arrays by ``<target>.<array>``; ``audio`` is a FLAC file as uint8.
        fidelity: what packing lost, by ``<target>.<measure>``.
    """

    utterance: Utterance
    duration: float
    tokens: Sequence[int]
    frames: int
    columns: Mapping[str, np.ndarray]
    fidelity: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FailedUtterance:
    """One utterance that could not be used: the error's stable code and its message."""

    utterance: Utterance
    code: str
    message: str


def parse_unit(
    packed: Sequence[PackedUtterance],
    failed: Sequence[FailedUtterance],
    columns: Mapping[str, ColumnSpec],
) -> list[PackedUtterance]:
    """``packed`` with checked columns: sorted by name, C-contiguous, little-endian.

    Raises:
        ConfigError: an utterance twice, or columns that are not those of the cache.
    """
    seen: set[str] = set()
    for utterance in (*(p.utterance for p in packed), *(f.utterance for f in failed)):
        if utterance.id in seen:
            raise ConfigError(f"utterance {utterance.id!r} is in this unit twice")
        seen.add(utterance.id)
    return [replace(item, columns=_parse_columns(item, columns)) for item in packed]


def _parse_columns(
    item: PackedUtterance, columns: Mapping[str, ColumnSpec]
) -> dict[str, np.ndarray]:
    required = {name for name, spec in columns.items() if not spec.optional}
    missing, unknown = required - item.columns.keys(), item.columns.keys() - columns.keys()
    if missing or unknown:
        raise ConfigError(
            f"utterance {item.utterance.id!r} does not have the columns of the cache: "
            f"missing {sorted(missing)}, unknown {sorted(unknown)}"
        )
    return {name: _parse_array(item, name, columns[name]) for name in sorted(item.columns)}


def _parse_array(item: PackedUtterance, name: str, spec: ColumnSpec) -> np.ndarray:
    array = np.asarray(item.columns[name])
    if array.dtype.newbyteorder("=") != np.dtype(spec.dtype) or array.ndim != spec.ndim:
        raise ConfigError(
            f"column {name} of utterance {item.utterance.id!r} has dtype {array.dtype} and "
            f"{array.ndim} axes; the cache expects {spec.dtype} and {spec.ndim}"
        )
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
