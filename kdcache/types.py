"""Frozen values that every room knows. Plain data: no torch, no I/O."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


@dataclass(frozen=True, slots=True)
class AudioRef:
    """Where the samples of an utterance are.

    Attributes:
        path: a file path or URL.
        offset: start within the file, in seconds.
        duration: length in seconds; ``None`` means to the end of the file.
        speed: how much faster than recorded it is heard: 0.9 takes 1/0.9 of the time, and the
            pitch falls along. Offset and duration are those of the recording.
    """

    path: str
    offset: float = 0.0
    duration: float | None = None
    speed: float = 1.0


@dataclass(frozen=True, slots=True)
class Utterance:
    """One stretch of speech with its transcript.

    Attributes:
        id: unique within the corpus.
        audio: where its samples are.
        text: the transcript; empty where there is none.
        speaker: speaker id, or ``None`` where unknown.
    """

    id: str
    audio: AudioRef
    text: str = ""
    speaker: str | None = None

    @property
    def duration(self) -> float:
        """Seconds to be heard, as the manifest claims; 0.0 where it does not say."""
        return (self.audio.duration or 0.0) / self.audio.speed


class TeacherKind(StrEnum):
    """What sort of posterior a teacher has, and so which targets it can give."""

    TRANSDUCER = "transducer"
    CTC = "ctc"
    ATTENTION = "attention"


@dataclass(frozen=True, slots=True)
class TeacherSpec:
    """What a teacher is, as far as a cache or a student must know.

    Attributes:
        name: a name for people, such as the directory's.
        kind: transducer, ctc or attention.
        vocab_size: classes V of its posteriors, blank included where there is one.
        blank_id: class id of blank; ``None`` for an attention decoder.
        sample_rate: Hz that it expects.
        frame_shift: seconds between two encoder frames.
        hidden_size: width D of the encoder's output.
        targets: kinds of targets that it can give, sorted.
        tokenizer: fingerprint of its tokenizer.
        fingerprint: hex digest over weights, config, tokenizer and the versions of the
            libraries that change its numbers.
    """

    name: str
    kind: TeacherKind
    vocab_size: int
    blank_id: int | None
    sample_rate: int
    frame_shift: float
    hidden_size: int
    targets: tuple[str, ...]
    tokenizer: str
    fingerprint: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {**asdict(self), "kind": str(self.kind), "targets": list(self.targets)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> TeacherSpec:
        """Inverse of :meth:`to_dict`."""
        return cls(**{**data, "kind": TeacherKind(data["kind"]), "targets": tuple(data["targets"])})


@dataclass(frozen=True, slots=True)
class TargetSpec:
    """One target of a cache: what is kept, and how it is packed.

    Attributes:
        name: unique within the cache; columns are named ``<name>.<array>``.
        kind: a registered kind of target, such as ``lattice``.
        record: the kind of record that it decodes to: ``lattice``, ``posterior``, ``vector``,
            ``score`` or ``hypotheses`` (``kdcache.codec.records``).
        settings: what to keep, for example ``{"top_k": 8}``.
        codec: how it is packed: ``{"name": "log8", …}``.
    """

    name: str
    kind: str
    record: str
    settings: dict[str, Any] = field(default_factory=dict)
    codec: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> TargetSpec:
        """Inverse of :meth:`to_dict`."""
        return cls(**data)


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no blanks: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def fingerprint_of(value: Any) -> str:
    """Hex SHA-256 of the canonical JSON of ``value``."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
