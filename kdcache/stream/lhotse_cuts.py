"""A stream for code that is written for Lhotse: its micro-batches as ``CutSet``\\ s, and back.

A cut holds in memory what the stream gives of an utterance: the samples, the transcript with
its label ids, and the arrays of each target as custom fields ``<target>_<array>``, where
``<array>`` is the name in ``kdcache.codec.records`` without the shape: ``lattice_logp``,
``lattice_ids``, ``hidden_values``. What has an axis of frames or tokens is a temporal array,
evenly spread over the utterance; other arrays are plain ones.

Samples are kept as float WAV and arrays as npy, so that nothing is lost and nothing is
unpickled. Targets are of whole utterances: noise may be mixed in, but what changes the time axis
(truncation, padding, speed) leaves targets behind that no longer fit, and is refused.

Lhotse is imported when a cut is made.
"""

from __future__ import annotations

import io
from copy import copy
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile as sf

from kdcache.codec.records import (
    HypothesesRecord,
    LatticeRecord,
    PosteriorRecord,
    Record,
    ScoreRecord,
    VectorRecord,
)
from kdcache.errors import InputError, MissingDependencyError
from kdcache.stream.collate import collate
from kdcache.stream.source import Example

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from kdcache.batch import Batch
    from kdcache.stream.source import Source
    from kdcache.stream.stream import Stream

_TARGETS = "kdcache_targets"
"""Custom field of a cut: what its targets are, by name."""

_KINDS: dict[str, type[Record]] = {
    "lattice": LatticeRecord,
    "posterior": PosteriorRecord,
    "vector": VectorRecord,
    "score": ScoreRecord,
    "hypotheses": HypothesesRecord,
}

_SECONDS = "kdcache_seconds"
"""Custom field of a cut: how long it is, and its targets are."""

_TOLERANCE = 1e-3
"""Seconds by which a cut may have become longer or shorter: Lhotse rounds."""

_TOKENS = "tokens"
"""Custom field of its supervision: label ids."""


def stream_cuts(stream: Stream, sample_rate: int = 16_000) -> Stream:
    """The same stream from where it stands, whose micro-batches are Lhotse ``CutSet``\\ s.

    Order, position, workers and damage are as ever; :class:`~kdcache.stream.TorchDataset` takes
    it, too. The given stream stays where it is.

    Args:
        stream: of batches.
        sample_rate: Hz of its samples.

    Raises:
        MissingDependencyError: lhotse is not installed.
    """
    _lhotse()
    cuts = copy(stream)
    cuts.source, cuts.damaged = CutSource(stream.source, sample_rate), {}
    return cuts


class CutSource:
    """A source whose batches are ``CutSet``\\ s.

    Args:
        source: of the utterances.
        sample_rate: Hz of its samples.
    """

    def __init__(self, source: Source, sample_rate: int) -> None:
        self._source, self._sample_rate = source, sample_rate
        self.durations = source.durations

    @property
    def snapshot(self) -> str:
        """That of the source: positions can be exchanged."""
        return self._source.snapshot

    @property
    def frame_shift(self) -> float | None:
        """That of the source."""
        return self._source.frame_shift

    def load(self, row: int) -> Example:
        """As the source has it."""
        return self._source.load(row)

    def load_batch(self, rows: Sequence[int]) -> Any:
        """Rows as a ``CutSet``, in their order."""
        return _lhotse().CutSet.from_cuts(
            make_cut(self.load(row), float(self.durations[row]), self._sample_rate) for row in rows
        )


def make_cut(example: Example, duration: float, sample_rate: int) -> Any:
    """One utterance as a ``MonoCut``.

    Args:
        example: the utterance.
        duration: seconds; of no effect where there are samples, which know.
        sample_rate: Hz of the samples.

    Raises:
        MissingDependencyError: lhotse is not installed.
    """
    lhotse = _lhotse()
    recording = None
    if example.audio is not None:
        recording = _recording(example.id, example.audio, sample_rate)
        duration = recording.duration
    supervision = lhotse.SupervisionSegment(
        id=example.id,
        recording_id=example.id,
        start=0.0,
        duration=duration,
        text=example.text,
        custom={_TOKENS: example.tokens.tolist()},
    )
    return lhotse.MonoCut(
        id=example.id,
        start=0.0,
        duration=duration,
        channel=0,
        supervisions=[supervision],
        recording=recording,
        custom=dict(_fields(example.targets, duration)),
    )


def collate_cuts(cuts: Iterable[Any]) -> Batch:
    """Cuts that :func:`stream_cuts` made, in any company, as the batch that losses read.

    Args:
        cuts: at least one, all of one cache; mixed with noise or not, but whole.

    Raises:
        InputError: a cut does not come from a stream, or its time axis was changed.
    """
    return collate([_example(cut) for cut in cuts])


def _example(cut: Any) -> Example:
    """What the cut was made of."""
    kinds = _kinds(cut)
    spoken = cut.supervisions[0]
    return Example(
        id=cut.id,
        text=spoken.text,
        tokens=np.array(spoken.custom[_TOKENS], np.int64),
        audio=cut.load_audio()[0] if cut.has_recording else None,
        targets={name: _record(cut, name, _KINDS[kind]) for name, kind in kinds.items()},
    )


def _kinds(cut: Any) -> dict[str, str]:
    """What its targets are, by name."""
    custom = getattr(cut, "custom", None) or {}
    if _TARGETS not in custom:
        raise InputError(
            f"Cut {cut.id!r} carries no targets; expected cuts of kdcache.stream.stream_cuts."
        )
    if abs(cut.duration - custom[_SECONDS]) > _TOLERANCE:
        raise InputError(
            f"Cut {cut.id!r} is {cut.duration} s long and its targets {custom[_SECONDS]} s, which "
            "no longer fit; leave out what truncates, pads or speeds up cuts."
        )
    kinds: dict[str, str] = custom[_TARGETS]
    return kinds


def _record(cut: Any, name: str, kind: type[Record]) -> Record:
    found = {}
    for field in fields(kind):
        stored = cut.custom.get(_key(name, field.name))
        is_array = isinstance(stored, _lhotse().array.Array | _lhotse().array.TemporalArray)
        found[field.name] = cut.load_custom(_key(name, field.name)) if is_array else stored
    return kind(**found)


def _fields(targets: dict[str, Record], duration: float) -> Iterator[tuple[str, Any]]:
    """Custom fields of a cut."""
    names = {record: name for name, record in _KINDS.items()}
    yield _SECONDS, duration
    yield _TARGETS, {name: names[type(record)] for name, record in targets.items()}
    for name, record in targets.items():
        for field in fields(record):
            value = getattr(record, field.name)
            if isinstance(value, np.ndarray):
                value = _array(value, duration if _is_temporal(field.name) else None)
            if value is not None:
                yield _key(name, field.name), value


def _key(target: str, field: str) -> str:
    """``("lattice", "logp_TSC")`` → ``lattice_logp``."""
    return f"{target}_{field.rpartition('_')[0] or field}"


def _is_temporal(field: str) -> bool:
    """Whether the first axis of what is called so, by its shape suffix, is one of time."""
    return field.rpartition("_")[2][0] in "TN"


def _array(array: np.ndarray, duration: float | None) -> Any:
    """An array in memory; its first axis spread evenly over the seconds, where there are any."""
    lhotse = _lhotse()
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    stored = lhotse.array.Array("memory_npy", None, file.getvalue(), list(array.shape))
    if duration is None:
        return stored
    return lhotse.array.TemporalArray(stored, 0, duration / max(len(array), 1), 0.0)


def _recording(name: str, samples: np.ndarray, sample_rate: int) -> Any:
    """float32 samples (N,) in memory, bit for bit."""
    lhotse = _lhotse()
    file = io.BytesIO()
    sf.write(file, samples, sample_rate, subtype="FLOAT", format="WAV")
    return lhotse.Recording(
        id=name,
        sources=[lhotse.AudioSource(type="memory", channels=[0], source=file.getvalue())],
        sampling_rate=sample_rate,
        num_samples=len(samples),
        duration=len(samples) / sample_rate,
    )


def _lhotse() -> Any:
    try:
        import lhotse
        import lhotse.array
    except ImportError as error:
        raise MissingDependencyError(
            f"Lhotse's cuts need lhotse: pip install 'kdcache[lhotse]' ({error})."
        ) from error
    return lhotse
