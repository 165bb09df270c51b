"""A work unit in, packed utterances and failures out: the part that knows no Ray.

Three stages work at the same time: threads decode audio a few batches ahead (``decode``), one
thread asks the teacher (``forward``), and the caller packs what it said. No stage is more than a
few batches ahead of the next, so that memory stays bounded. A second caller may bring the next
unit meanwhile: its first batches are decoded at once, and the teacher turns to it as soon as it
has been given the last batch of the unit before, while that one is still being packed.

Neither threads nor callers change an answer: batches are those of the plan, and one thread alone
asks the teacher.
"""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import TYPE_CHECKING, Protocol

import numpy as np

from kdcache.corpus.audio import encode_flac, to_int16
from kdcache.errors import ConfigError, TeacherError, TeacherOutputError
from kdcache.extract.decode import Decoder, Heard
from kdcache.extract.failure import failure_of_answer, pass_on_broken_device, told
from kdcache.extract.forward import Forward
from kdcache.extract.gauge import Gauge, StageSeconds
from kdcache.extract.memory import is_memory_error, release_memory
from kdcache.store import FailedUtterance, PackedUtterance
from kdcache.teacher.protocol import keep_layers

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from kdcache.extract.forward import Answer
    from kdcache.extract.plan import Batch, Unit
    from kdcache.target import Reduced
    from kdcache.teacher import Teacher, TeacherOutput

    Outcome = PackedUtterance | FailedUtterance

_AHEAD = 2
"""Batches of a unit that the teacher may answer before one of them is packed."""


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
class UnitResult:
    """What became of a unit.

    Attributes:
        packed: utterances to commit, by id.
        failed: utterances that cannot be used, by id.
        halvings: batches that did not fit in memory and were cut in two.
        stages: where the time went.
    """

    packed: tuple[PackedUtterance, ...]
    failed: tuple[FailedUtterance, ...]
    halvings: int = 0
    stages: StageSeconds = field(default_factory=StageSeconds)

    @property
    def audio_seconds(self) -> float:
        """Seconds of audio that were packed."""
        return float(sum(packed.duration for packed in self.packed))


class UnitWorker:
    """Runs units through one teacher.

    Args:
        teacher: loaded.
        targets: what is kept of its answers; they hear one answer at a time.
        keep_audio: whether the samples are packed beside the targets, as FLAC.
        decode_threads: threads that decode audio ahead of the teacher.
        clock: by which the seconds of the stages are counted.
    """

    def __init__(
        self,
        teacher: Teacher,
        targets: Sequence[Packer],
        *,
        keep_audio: bool = False,
        decode_threads: int = 2,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._clock = clock
        self._teacher = teacher
        self._targets = tuple(targets)
        keep_layers(teacher, [layer for target in targets for layer in _layers_of(target)])
        self._keep_audio = keep_audio
        self._labels_itself = bool(getattr(teacher, "labels_itself", False))
        self._decoder = Decoder(teacher, decode_threads)
        self._forward = Forward(teacher)
        self._asking = ThreadPoolExecutor(1, "teacher")
        self._turn = Lock()
        self._packing = Lock()

    def run(self, unit: Unit) -> UnitResult:
        """Compute every utterance of ``unit``; none is left out of the result.

        Threads may call this at the same time; their units take turns at the teacher.

        Raises:
            AcceleratorError: the device is broken, and with it this process.
        """
        gauge = Gauge(self._clock)
        outcomes: list[Outcome] = []
        with closing(self._answers(unit.batches, gauge)) as answers:
            for batch in answers:
                outcomes += [self._outcome(answer, gauge) for answer in batch]
        outcomes.sort(key=lambda outcome: outcome.utterance.id)
        return UnitResult(
            packed=tuple(o for o in outcomes if isinstance(o, PackedUtterance)),
            failed=tuple(o for o in outcomes if isinstance(o, FailedUtterance)),
            halvings=gauge.halvings,
            stages=gauge.seconds,
        )

    def rehearse(self) -> None:
        """Run one second of faint noise the whole way, so that what would fail for every
        utterance fails before the first.

        Raises:
            TeacherError: it failed; the message says how.
            ConfigError: the teacher cannot be run as the settings say.
        """
        self._asking.submit(self._rehearse).result()

    def _rehearse(self) -> None:
        spec = self._teacher.spec
        noise = np.random.default_rng(0).normal(0.0, 0.01, spec.sample_rate).astype(np.float32)
        token = 1 if spec.blank_id == 0 else 0
        try:
            (output,) = self._teacher.forward([noise], [(token,)])
            output = replace(output, blank=spec.blank_id)
            for target in self._targets:
                target.pack(output)
        except ConfigError:  # a setting that this machine cannot follow, and says so itself
            raise
        except Exception as error:
            raise TeacherError(
                f"Teacher {spec.name!r} fails on one second of noise, so it would fail on every "
                f"utterance: {told(error)}"
            ) from error

    def _answers(
        self, batches: Sequence[Batch], gauge: Gauge
    ) -> Generator[list[Answer], None, None]:
        """What the teacher says, batch after batch, while the caller packs what it said before.

        The turn ends with the last batch that is given to the teacher, not with its answer.
        """
        waiting: deque[Future[list[Answer]]] = deque()
        decoded = self._decoder.start(batches, gauge)
        try:
            with self._turn:
                for batch in decoded:
                    waiting.append(self._asking.submit(self._ask, batch, gauge))
                    if len(waiting) > _AHEAD:
                        yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    def _ask(self, batch: Sequence[Heard | FailedUtterance], gauge: Gauge) -> list[Answer]:
        failed: list[Answer] = [item for item in batch if isinstance(item, FailedUtterance)]
        with gauge.of("teacher"):
            heard = [item for item in batch if isinstance(item, Heard)]
            return [*failed, *self._forward.answers(heard, gauge)]

    def _outcome(self, answer: Answer, gauge: Gauge) -> Outcome:
        if isinstance(answer, FailedUtterance):
            return answer
        with self._packing, gauge.of("encode"):
            try:
                return self._pack(*answer)
            except Exception as error:
                pass_on_broken_device(error)
                if not is_memory_error(error):
                    return failure_of_answer(answer[0].utterance, 0.0, error)
            # Beside the teacher's next batch there was too little memory; alone there may not be.
            release_memory()
            return self._asking.submit(self._pack_or_give_up, *answer).result()

    def _pack_or_give_up(self, heard: Heard, output: TeacherOutput) -> Outcome:
        try:
            return self._pack(heard, output)
        except Exception as error:
            pass_on_broken_device(error)
            seconds = len(heard.samples) / self._teacher.spec.sample_rate
            return failure_of_answer(heard.utterance, seconds, error)

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
