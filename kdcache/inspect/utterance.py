"""What a cache holds of one utterance, from its catalogue alone."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from kdcache.errors import UnknownUtteranceError

if TYPE_CHECKING:
    from kdcache.store import Cache


@dataclass(frozen=True, slots=True)
class ColumnSummary:
    """One stored array.

    Attributes:
        name: ``<target>.<array>``.
        dtype: numpy's name.
        shape: its axes.
        bytes: of its contents.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int


@dataclass(frozen=True, slots=True)
class UtteranceSummary:
    """One utterance of a cache.

    Attributes:
        id, text, speaker: as in the manifest.
        duration: seconds of audio, measured.
        tokens: label ids that the teacher was conditioned on.
        frames: encoder frames T.
        unit: the unit of work that committed it.
        columns: its stored arrays, by name.
        fidelity: what packing lost, by ``<target>.<measure>``.
        error, message: why it could not be used; ``None`` for a good one, and then the
            fields above, from ``tokens`` on, are empty.
    """

    id: str
    text: str
    speaker: str | None
    duration: float
    unit: str
    tokens: tuple[int, ...] = ()
    frames: int = 0
    columns: tuple[ColumnSummary, ...] = ()
    fidelity: dict[str, float] | None = None
    error: str | None = None
    message: str | None = None

    @property
    def bytes(self) -> int:
        """Of all its columns."""
        return sum(column.bytes for column in self.columns)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {**asdict(self), "bytes": self.bytes}


def summarise_utterance(cache: Cache, key: str) -> UtteranceSummary:
    """Look an utterance up, a failed one as well; no shard is read.

    Raises:
        UnknownUtteranceError: neither; the message names the nearest ids.
    """
    if key in cache:
        return _good(cache, cache.row_of(key))
    failures = cache.failures
    failed = pc.index(failures["id"], key).as_py()
    if failed >= 0:
        return _failed(failures.slice(failed, 1).to_pylist()[0])
    near = cache.nearest_ids(key)
    hint = f" Nearest: {', '.join(near)}." if near else ""
    raise UnknownUtteranceError(
        f"No utterance {key!r} among the {len(cache)} of {cache.location}.{hint}"
    )


def _good(cache: Cache, row: int) -> UtteranceSummary:
    values = cache.catalogue.slice(row, 1).to_pylist()[0]
    return UtteranceSummary(
        id=values["id"],
        text=values["text"] or "",
        speaker=values["speaker"],
        duration=values["duration"],
        unit=values["unit"],
        tokens=tuple(values["tokens"] or ()),
        frames=values["frames"],
        columns=tuple(_columns(cache, values)),
        fidelity={
            name.removeprefix("fidelity."): value
            for name, value in sorted(values.items())
            if name.startswith("fidelity.") and value is not None
        },
    )


def _columns(cache: Cache, values: dict[str, Any]) -> list[ColumnSummary]:
    found = []
    for name, spec in sorted(cache.columns.items()):
        shape = values[f"shape.{name}"]
        if shape is not None:
            size = int(np.prod(shape, dtype=np.int64)) * np.dtype(spec.dtype).itemsize
            found.append(ColumnSummary(name, spec.dtype, tuple(shape), size))
    return found


def _failed(values: dict[str, Any]) -> UtteranceSummary:
    return UtteranceSummary(
        id=values["id"],
        text=values["text"] or "",
        speaker=values["speaker"],
        duration=values["duration"] or 0.0,
        unit=values["unit"],
        error=values["error"],
        message=values["message"],
    )
