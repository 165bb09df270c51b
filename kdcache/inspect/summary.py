"""What a cache is, in a few figures taken from its header and catalogue alone."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

if TYPE_CHECKING:
    from kdcache.store import Cache, Choice
    from kdcache.types import TargetSpec

_LONGEST = 256
"""Characters of a setting that people may want to read."""

_MEASURE = "fidelity."
_ROWS_COLUMNS = ("logp", "values", "codes", "scores")


@dataclass(frozen=True, slots=True)
class TargetSummary:
    """One target of a cache.

    Attributes:
        name, kind, record, settings, codec: as in its ``TargetSpec``; of a table that is part
            of the codec's settings its digest.
        bytes: of its columns' contents, containers left out.
        fidelity: by measure. Those named ``…_max`` are the largest of all utterances; the
            others are means over all nodes, frames or tokens of the cache, that is, over
            utterances weighted by how many of these each has. What is said of an utterance as a
            whole (scores, hypotheses) is one value of each.
        choice: how settings and codec came about, where they were chosen for a goal.
    """

    name: str
    kind: str
    record: str
    settings: dict[str, Any]
    codec: dict[str, Any]
    bytes: int
    fidelity: dict[str, float]
    choice: Choice | None = None


@dataclass(frozen=True, slots=True)
class CacheSummary:
    """A cache in figures.

    Attributes:
        path: where it is.
        layout, format_version: how it is written.
        teacher: name of the teacher; ``teacher_kind``, ``teacher_fingerprint``: which it is.
        tokenizer: fingerprint of the tokenizer.
        targets: what is kept.
        audio: ``none`` or ``flac``; ``audio_bytes`` of it.
        units: committed units of work.
        utterances: good ones.
        failed: how many could not be used, by error code.
        hours: of audio of the good ones.
        bytes: of all files that belong to the cache.
        bytes_per_hour: ``None`` where there is no audio.
        content_digest: ``None`` where it was not asked for.
    """

    path: str
    layout: str
    format_version: int
    teacher: str
    teacher_kind: str
    teacher_fingerprint: str
    tokenizer: str
    targets: tuple[TargetSummary, ...]
    audio: str
    audio_bytes: int
    units: int
    utterances: int
    failed: dict[str, int]
    hours: float
    bytes: int
    bytes_per_hour: float | None
    content_digest: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {**asdict(self), "targets": [asdict(target) for target in self.targets]}


def summarise(cache: Cache, *, digest: bool = False) -> CacheSummary:
    """Summarise what is committed; no shard is read.

    Args:
        cache: an open cache.
        digest: compute the content digest as well.
    """
    teacher = cache.spec.teacher
    hours = float(cache.catalogue["duration"].to_numpy().sum()) / 3600
    errors = Counter(cache.failures["error"].to_pylist())
    return CacheSummary(
        path=cache.location,
        layout=cache.layout,
        format_version=cache.spec.format_version,
        teacher=teacher.name,
        teacher_kind=str(teacher.kind),
        teacher_fingerprint=teacher.fingerprint,
        tokenizer=cache.spec.tokenizer,
        targets=tuple(_summarise_target(cache, target) for target in cache.spec.targets),
        audio=cache.spec.audio,
        audio_bytes=_column_bytes(cache, "audio") if "audio" in cache.columns else 0,
        units=len(cache.units),
        utterances=len(cache),
        failed=dict(sorted(errors.items())),
        hours=hours,
        bytes=cache.nbytes,
        bytes_per_hour=cache.nbytes / hours if hours else None,
        content_digest=cache.content_digest() if digest else None,
    )


def _summarise_target(cache: Cache, target: TargetSpec) -> TargetSummary:
    own = [name for name in cache.columns if name.startswith(f"{target.name}.")]
    return TargetSummary(
        name=target.name,
        kind=target.kind,
        record=target.record,
        settings=target.settings,
        codec={name: without_tables(value) for name, value in target.codec.items()},
        bytes=sum(_column_bytes(cache, name) for name in own),
        fidelity=_fidelity(cache, target.name),
        choice=cache.choices.get(target.name),
    )


def without_tables(setting: Any) -> Any:
    """A codec's setting, with a digest in the place of arrays that were written as text."""
    if isinstance(setting, dict):
        return {name: without_tables(value) for name, value in setting.items()}
    if isinstance(setting, str) and len(setting) > _LONGEST:
        return f"sha256:{hashlib.sha256(setting.encode()).hexdigest()}"
    return setting


def _column_bytes(cache: Cache, name: str) -> int:
    shapes = cache.column_shapes(name)
    elements = np.where((shapes < 0).any(axis=1), 0, shapes.prod(axis=1)).sum()
    return int(elements) * np.dtype(cache.columns[name].dtype).itemsize


def _fidelity(cache: Cache, target: str) -> dict[str, float]:
    prefix = f"{_MEASURE}{target}."
    weights = _row_counts(cache, target)
    found = {}
    for name in cache.catalogue.schema.names:
        if name.startswith(prefix):
            values = cache.catalogue[name].cast("float64").to_numpy()
            found[name.removeprefix(prefix)] = _combine(name, values, weights)
    return {name: value for name, value in sorted(found.items()) if value is not None}


def _combine(name: str, values: np.ndarray, weights: np.ndarray) -> float | None:
    """Largest or weighted mean of what was measured; ``None`` where nothing was."""
    measured = ~np.isnan(values)
    if not measured.any():
        return None
    if name.endswith("_max"):
        return float(values[measured].max())
    weights = weights[measured]
    total = weights.sum()
    return float((values[measured] * weights).sum() / total) if total else None


def _row_counts(cache: Cache, target: str) -> np.ndarray:
    """Nodes, frames or tokens of each utterance, 1 of what is said of it as a whole.

    Where no shape tells: tokens and an end for a decoder's posteriors, these times encoder frames
    for whole lattices, else encoder frames, as a band is about as wide in every utterance.
    """
    for array in _ROWS_COLUMNS:
        if f"{target}.{array}" in cache.columns:
            shapes = cache.column_shapes(f"{target}.{array}")
            counts: np.ndarray = shapes[:, :-1].clip(min=0).prod(axis=1).astype(np.float64)
            return counts
    spec = cache.spec.target(target)
    frames: np.ndarray = cache.catalogue["frames"].to_numpy().astype(np.float64)
    lengths = pc.list_value_length(cache.catalogue["tokens"]).to_numpy()
    columns: np.ndarray = lengths.astype(np.float64) + 1
    if spec.kind == "decoder_logits":
        return columns
    whole = spec.record == "lattice" and not {"epsilon", "width"} & spec.settings.keys()
    return frames * columns if whole else frames
