"""The first stage of a unit: audio and tokens, made by threads ahead of the teacher."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from kdcache.corpus.audio import load_audio
from kdcache.errors import AudioError, TranscriptError
from kdcache.extract.failure import failure_of
from kdcache.types import TeacherKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np

    from kdcache.extract.gauge import Gauge
    from kdcache.extract.plan import Batch
    from kdcache.store import FailedUtterance
    from kdcache.teacher import Teacher
    from kdcache.types import Utterance

_AHEAD = 3
"""Batches of a unit that are decoded, or being decoded, before the teacher has asked for them."""


@dataclass(frozen=True, slots=True)
class Heard:
    """One utterance ready for the teacher.

    Attributes:
        utterance: what it is.
        samples: float32 (N,) at the teacher's rate.
        tokens: label ids; empty where there is no transcript and the teacher needs none.
    """

    utterance: Utterance
    samples: np.ndarray
    tokens: tuple[int, ...]


if TYPE_CHECKING:
    Decoded = list[Heard | FailedUtterance]
    """A batch, with a failure in the place of what could not be decoded."""
    Pending = list[Future[Heard | FailedUtterance]]


class Decoder:
    """Decodes for one teacher.

    Args:
        teacher: whose rate and tokenizer count.
        threads: that decode, for all units together.
    """

    def __init__(self, teacher: Teacher, threads: int) -> None:
        self._teacher = teacher
        self._labels_itself = bool(getattr(teacher, "labels_itself", False))
        self._threads = ThreadPoolExecutor(threads, "decode")

    def start(self, batches: Sequence[Batch], gauge: Gauge) -> Iterator[Decoded]:
        """Decoded batches in order. The first are begun at once, before any is asked for."""
        left = iter([[(utterance, gauge) for utterance in batch] for batch in batches])
        return self._decoded(deque(map(self._submit, islice(left, _AHEAD))), left)

    def _decoded(
        self, ahead: deque[Pending], left: Iterator[list[tuple[Utterance, Gauge]]]
    ) -> Iterator[Decoded]:
        try:
            while ahead:
                batch = [future.result() for future in ahead.popleft()]
                ahead.extend(map(self._submit, islice(left, 1)))
                yield batch
        finally:
            for future in (future for batch in ahead for future in batch):
                future.cancel()

    def _submit(self, batch: list[tuple[Utterance, Gauge]]) -> Pending:
        return [self._threads.submit(self._hear, *pair) for pair in batch]

    def _hear(self, utterance: Utterance, gauge: Gauge) -> Heard | FailedUtterance:
        with gauge.of("decode"):
            try:
                tokens = self._tokens_of(utterance)
                samples = load_audio(utterance.audio, self._teacher.spec.sample_rate)
                if not len(samples):
                    raise AudioError(f"{utterance.audio.path} holds no samples.")
                return Heard(utterance, samples, tokens)
            except Exception as error:
                return failure_of(utterance, error)

    def _tokens_of(self, utterance: Utterance) -> tuple[int, ...]:
        if utterance.text.strip():
            return tuple(self._teacher.tokenizer.encode(utterance.text))
        if self._labels_itself or self._teacher.spec.kind is TeacherKind.CTC:
            return ()
        raise TranscriptError(
            f"Utterance {utterance.id!r} has no transcript, which a "
            f"{self._teacher.spec.kind} teacher needs; with the adapter "
            "kdcache.teacher.pseudo:PseudoLabels its own labels stand in."
        )
