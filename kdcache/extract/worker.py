"""A work unit in, packed utterances and failures out: the part that knows no Ray.

Audio is decoded a few batches ahead of the teacher by threads. What one utterance does wrong
is recorded under its id, and the others go on: a batch that fails as a whole is repeated one
by one, so that one bad utterance costs nobody else. Only a broken accelerator is passed on,
because every later answer of that process would be wrong as well.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from kdcache.corpus.audio import encode_flac, load_audio, to_int16
from kdcache.errors import (
    AudioError,
    KdcacheError,
    TeacherError,
    TeacherOutputError,
    TranscriptError,
    UtteranceError,
)
from kdcache.store import FailedUtterance, PackedUtterance
from kdcache.teacher.protocol import keep_layers
from kdcache.types import TeacherKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kdcache.extract.plan import Batch, Unit
    from kdcache.target import Reduced
    from kdcache.teacher import Teacher, TeacherOutput
    from kdcache.types import Utterance

_AHEAD = 2
"""Batches that are decoded while the teacher is busy with another."""

_LONGEST_MESSAGE = 500
"""Characters of an unexpected error's text that are recorded."""


class Packer(Protocol):
    """A target with its codec, or whoever else wants to hear the teacher's answers."""

    @property
    def name(self) -> str:
        """Its name in the cache."""
        ...

    def pack(self, output: TeacherOutput) -> Reduced:
        """Reduce and pack one utterance's output."""
        ...


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


@dataclass(frozen=True, slots=True)
class UnitResult:
    """What became of a unit.

    Attributes:
        packed: utterances to commit, by id.
        failed: utterances that cannot be used, by id.
    """

    packed: tuple[PackedUtterance, ...]
    failed: tuple[FailedUtterance, ...]

    @property
    def audio_seconds(self) -> float:
        """Seconds of audio that were packed."""
        return float(sum(packed.duration for packed in self.packed))


class UnitWorker:
    """Runs units through one teacher.

    Args:
        teacher: loaded.
        targets: what is kept of its answers.
        keep_audio: whether the samples are packed beside the targets, as FLAC.
        decode_threads: threads that decode audio ahead of the teacher.
    """

    def __init__(
        self,
        teacher: Teacher,
        targets: Sequence[Packer],
        *,
        keep_audio: bool = False,
        decode_threads: int = 2,
    ) -> None:
        self._teacher = teacher
        self._targets = tuple(targets)
        keep_layers(teacher, [layer for target in targets for layer in _layers_of(target)])
        self._keep_audio = keep_audio
        self._decode_threads = decode_threads
        self._labels_itself = bool(getattr(teacher, "labels_itself", False))

    def run(self, unit: Unit) -> UnitResult:
        """Compute every utterance of ``unit``; none is left out of the result."""
        outcomes: list[PackedUtterance | FailedUtterance] = []
        for batch in self._heard(unit.batches):
            outcomes += [item for item in batch if isinstance(item, FailedUtterance)]
            outcomes += self._answered([item for item in batch if isinstance(item, Heard)])
        outcomes.sort(key=lambda outcome: outcome.utterance.id)
        return UnitResult(
            packed=tuple(o for o in outcomes if isinstance(o, PackedUtterance)),
            failed=tuple(o for o in outcomes if isinstance(o, FailedUtterance)),
        )

    def rehearse(self) -> None:
        """Run one second of faint noise the whole way, so that what would fail for every
        utterance fails before the first.

        Raises:
            TeacherError: it failed; the message says how.
        """
        spec = self._teacher.spec
        noise = np.random.default_rng(0).normal(0.0, 0.01, spec.sample_rate).astype(np.float32)
        token = 1 if spec.blank_id == 0 else 0
        try:
            (output,) = self._teacher.forward([noise], [(token,)])
            output = replace(output, blank=spec.blank_id)
            for target in self._targets:
                target.pack(output)
        except Exception as error:
            raise TeacherError(
                f"Teacher {spec.name!r} fails on one second of noise, so it would fail on every "
                f"utterance: {_told(error)}"
            ) from error

    def _heard(self, batches: Sequence[Batch]) -> Iterator[list[Heard | FailedUtterance]]:
        """Decoded batches in order, a few of them in the making."""
        ahead: deque[list[Future[Heard | FailedUtterance]]] = deque()
        with ThreadPoolExecutor(self._decode_threads, "decode") as pool:
            for batch in batches:
                ahead.append([pool.submit(self._hear, utterance) for utterance in batch])
                if len(ahead) > _AHEAD:
                    yield [future.result() for future in ahead.popleft()]
            while ahead:
                yield [future.result() for future in ahead.popleft()]

    def _hear(self, utterance: Utterance) -> Heard | FailedUtterance:
        try:
            tokens = self._tokens_of(utterance)
            samples = load_audio(utterance.audio, self._teacher.spec.sample_rate)
            if not len(samples):
                raise AudioError(f"{utterance.audio.path} holds no samples.")
            return Heard(utterance, samples, tokens)
        except Exception as error:
            return _failure(utterance, error)

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

    def _answered(self, batch: Sequence[Heard]) -> list[PackedUtterance | FailedUtterance]:
        """The teacher's answers to a batch; one by one where it fails as a whole."""
        if not batch:
            return []
        try:
            outputs = self._forward(batch)
        except Exception as error:
            _pass_on_broken_device(error)
            if len(batch) == 1:
                return [_failure(batch[0].utterance, error)]
        else:
            return [self._packed(*pair) for pair in zip(batch, outputs, strict=True)]
        return [outcome for heard in batch for outcome in self._answered([heard])]

    def _forward(self, batch: Sequence[Heard]) -> list[TeacherOutput]:
        outputs = self._teacher.forward(
            [heard.samples for heard in batch], [heard.tokens for heard in batch]
        )
        if len(outputs) != len(batch):
            raise TeacherOutputError(
                f"The teacher gave {len(outputs)} outputs for {len(batch)} utterances."
            )
        return outputs

    def _packed(self, heard: Heard, output: TeacherOutput) -> PackedUtterance | FailedUtterance:
        try:
            return self._pack(heard, output)
        except Exception as error:
            _pass_on_broken_device(error)
            return _failure(heard.utterance, error)

    def _pack(self, heard: Heard, output: TeacherOutput) -> PackedUtterance:
        if output.frames < 1:
            raise TeacherOutputError(
                f"The teacher gave no frames for {len(heard.samples)} samples."
            )
        spec = self._teacher.spec
        output = replace(output, utterance=heard.utterance.id, blank=spec.blank_id)
        rate = spec.sample_rate
        columns: dict[str, np.ndarray] = {}
        fidelity: dict[str, float] = {}
        for target in self._targets:
            reduced = target.pack(output)
            columns |= {f"{target.name}.{key}": value for key, value in reduced.columns.items()}
            fidelity |= {f"{target.name}.{key}": value for key, value in reduced.fidelity.items()}
        if self._keep_audio:
            flac = encode_flac(to_int16(heard.samples), rate)
            columns["audio"] = np.frombuffer(flac, np.uint8)
        return PackedUtterance(
            utterance=heard.utterance,
            duration=len(heard.samples) / rate,
            tokens=output.tokens if self._labels_itself else heard.tokens,
            frames=output.frames,
            columns=columns,
            fidelity=fidelity,
        )


def _layers_of(packer: Packer) -> tuple[int, ...]:
    """Of the teacher's layers, those that a target is made of."""
    layers: tuple[int, ...] = getattr(getattr(packer, "target", None), "layers", ())
    return layers


def _failure(utterance: Utterance, error: Exception) -> FailedUtterance:
    """What is recorded: an error's stable code, or its class where kdcache did not raise it."""
    code = error.code if isinstance(error, KdcacheError) else type(error).__name__
    return FailedUtterance(utterance=utterance, code=code, message=_told(error))


def _told(error: Exception) -> str:
    """An error in one line."""
    text = " ".join(str(error).split())[:_LONGEST_MESSAGE]
    return text if isinstance(error, UtteranceError) else f"{type(error).__name__}: {text}"


def _pass_on_broken_device(error: Exception) -> None:
    """Raise ``error`` again where the device, not the utterance, is to blame.

    After such an error a CUDA process answers nothing any more; it must be replaced.
    """
    if isinstance(error, torch.AcceleratorError):
        raise error
