"""The training loop of one worker: no Ray in it, so that it can be run and tested alone."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
import xxhash

from kdcache.batch import to_device
from kdcache.errors import ConfigError, TokenizerError
from kdcache.student import TransducerStudent, begin_from_ctc, build_student, load_student
from kdcache.student.augment import SpecAugment
from kdcache.student.noise import NoiseAugment, add_noise
from kdcache.student.pruning import Pruner
from kdcache.student.quantisation import Rounding
from kdcache.train.alignment import alignment_of
from kdcache.train.best import Best
from kdcache.train.checkpoint import (
    clear_leavings,
    finished_student,
    list_checkpoints,
    publish_best,
    read_best,
    save_checkpoint,
    save_finished,
    save_teacher,
)
from kdcache.train.data import SAMPLE_RATE, load_data
from kdcache.train.freeze import Frozen
from kdcache.train.live import LiveTeacher
from kdcache.train.metrics import save_shuffle
from kdcache.train.objective import loss_terms, weighted_sum
from kdcache.train.optim import build_optimizer, learning_rate, set_learning_rate
from kdcache.train.recorder import Recorder
from kdcache.train.stall import StallClock
from kdcache.train.statistics import RunningStatistics
from kdcache.train.stopping import never
from kdcache.train.validate import Validator

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from kdcache.batch import Batch
    from kdcache.corpus.tokenizer import Tokenizer
    from kdcache.stream.stream import Step
    from kdcache.student import Student
    from kdcache.train.checkpoint import Checkpoint
    from kdcache.train.settings import TrainSettings
    from kdcache.train.world import World

SECONDS = "audio_seconds"
"""Beside the terms in a step's totals: audio of the step."""


TEACHER = "teacher_loss"
"""Beside them, of a live teacher that is trained."""


class Trainer:
    """One worker's state: student, optimiser, stream, step, best validation.

    Args:
        settings: of the run, alike on every worker.
        world: this worker's place.
        report: called after each validation and at each checkpoint, on every worker, with the
            step, its loss, and where there was a validation ``validation/<name>`` of its values.
        stop: asked by the first worker after each step, whether to stop.
    """

    def __init__(
        self,
        settings: TrainSettings,
        world: World,
        report: Callable[[dict[str, Any]], None] = lambda _: None,
        stop: Callable[[], bool] = never,
    ) -> None:
        self._settings, self._world, self._report = settings, world, report
        self._stop, self._told_to_stop = stop, False
        self._out = settings.out
        self._out.mkdir(parents=True, exist_ok=True)
        self.step, self.best = 0, Best()
        self.stream, tokenizer = load_data(settings, world)
        torch.manual_seed(settings.seed)
        checkpoints = list_checkpoints(self._out)
        student = _first_student(settings, checkpoints, tokenizer)
        _check_spelling(student, tokenizer)
        student.grow(settings.student)
        self.student = student.to(world.device)
        self._live = None
        if settings.live is not None:
            saved = checkpoints[-1].teacher if checkpoints else None
            self._live = LiveTeacher(settings, self.student, saved)
        self._frozen = Frozen(self.student, settings.freeze)
        self._trained = self._live.with_student(self.student) if self._live else self.student
        self._statistics = RunningStatistics(self._trained, world)
        self._weights = settings.loss
        teacher = self._live or self.stream.source
        clocks = (teacher.frame_shift, student.frame_shift)
        self._alignment = alignment_of(settings.align, settings.loss, *clocks)
        self._validator = None
        if settings.validation is not None:
            self._validator = Validator(settings, world, tokenizer, self._alignment)
        self.optimizer = build_optimizer(self._trained, settings.optim)
        if checkpoints:
            self._restore(checkpoints[-1].training_state())
        self._pruner = None
        if settings.prune is not None:
            self._pruner = Pruner(self.student, settings.prune, self.step)
        if world.is_first:
            clear_leavings(self._out)
            self._publish()
        self._rounding = None
        if settings.quantise is not None:
            self._rounding = Rounding(self.student, settings.quantise)
        self._recorder = Recorder(settings, self.step, writes=world.is_first)
        self._clock = StallClock(world)

    def run(self) -> Path:
        """Train to the last step; returns the directory of the finished student.

        Where it was told to stop before, there is no such directory yet, but a checkpoint of the
        last step that was done.
        """
        self._check_same_start()
        self._tell_shuffle()
        self._clock = StallClock(self._world)
        while not self._over:
            for step in self.stream.steps():
                self._train_step(step)
                self._after_step()
                if self._over:
                    break
        if self._ended:
            self._finish()
        return finished_student(self._out)

    @property
    def _ended(self) -> bool:
        """Whether there is no step left, or no patience."""
        validation = self._settings.validation
        patience = None if validation is None else validation.patience
        waited = patience is not None and self.best.since >= patience
        return waited or self.step >= self._settings.optim.steps

    @property
    def _over(self) -> bool:
        """Whether to train no further, now."""
        return self._ended or self._told_to_stop

    def _tell_shuffle(self) -> None:
        window = self.stream.window_shards
        quality = self.stream.shuffle_quality() if window and self._world.is_first else None
        if window and quality:
            save_shuffle(self._out, window, quality)

    def _train_step(self, step: Step) -> None:
        self._frozen.train_the_rest()
        self._weights = self._settings.loss.at(self.step)
        rate = learning_rate(self.step, self._settings.optim)
        set_learning_rate(self.optimizer, rate)
        self.optimizer.zero_grad(set_to_none=True)
        with self._statistics.step(), self._rounded():
            totals = self._backward(step)
        self._world.sum_gradients(self._trained.parameters())
        if self._pruner is not None:
            self._pruner.drop_gradients()
        clip_norm = self._settings.optim.clip_norm
        norm = torch.nn.utils.clip_grad_norm_(self.student.parameters(), clip_norm)
        if self._live is not None:
            torch.nn.utils.clip_grad_norm_(self._live.own_weights(self.student), clip_norm)
        self.optimizer.step()
        self.step += 1
        if self._pruner is not None:
            self._pruner.after_step(self.step)
        self._log(step, totals, rate, norm)

    def _backward(self, step: Step) -> dict[str, torch.Tensor]:
        """Accumulate gradients of this worker's micro-batches; summed terms by name."""
        totals: dict[str, torch.Tensor] = {}
        for place, batch in zip(step.places, step.batches, strict=True):
            self._seed(place)
            with self._statistics.micro_batch():
                terms, teacher = self._terms(batch)
            loss = weighted_sum(terms, self._weights) / step.utterances
            if teacher is not None:
                loss = loss + teacher / step.utterances
                own = teacher.detach() / step.utterances
                totals[TEACHER] = totals.get(TEACHER, 0.0) + own
            loss.backward()  # type: ignore[no-untyped-call]
            for name, values_B in terms.items():
                totals[name] = totals.get(name, 0.0) + values_B.detach().sum() / step.utterances
            seconds = torch.tensor(_audio_seconds(batch), device=self._world.device)
            totals[SECONDS] = totals.get(SECONDS, 0.0) + seconds
        return totals

    def _rounded(self) -> AbstractContextManager[None]:
        """Within it weights are as 8 bits hold them, where that is asked for."""
        return nullcontext() if self._rounding is None else self._rounding.after(self.step)

    def _terms(self, batch: Batch) -> tuple[dict[str, torch.Tensor], torch.Tensor | None]:
        """Terms of the student's loss, and the loss of a live teacher that is trained."""
        augment, own = None, None
        if self._settings.augment:
            augment = replace(SpecAugment(), seed=self._settings.seed, step=self.step)
        noisy = self._in_noise(batch)
        heard = to_device(noisy, self._world.device)
        output = self.student(heard, augment, self._settings.dtype)
        if self._live is not None:
            clean = heard if noisy is batch else to_device(batch, self._world.device)
            lesson = self._live.teach(clean, heard, augment, self._weights)
            heard, own = lesson.batch, lesson.loss
        terms = loss_terms(output, heard, self.student.blank, self._weights, self._alignment)
        return terms, own

    def _in_noise(self, batch: Batch) -> Batch:
        """The batch in noise, if it is to have any; numpy makes it, before it goes to a GPU."""
        if self._settings.noise is None:
            return batch
        noise = NoiseAugment(self._settings.noise, seed=self._settings.seed, step=self.step)
        return add_noise(batch, noise)

    def _seed(self, place: int) -> None:
        """Dropout depends on the micro-batch's place in the run, not on its worker."""
        key = f"{self._settings.seed}\x1f{self.step}\x1f{place}"
        torch.manual_seed(xxhash.xxh64_intdigest(key.encode()) >> 1)

    def _log(
        self, step: Step, totals: dict[str, torch.Tensor], rate: float, norm: torch.Tensor
    ) -> None:
        weights = self._weights.weights()
        names = sorted(weights)
        zero = torch.zeros((), device=self._world.device)
        damaged = zero + len(self.stream.damaged)
        # One worker asks and all are told, so that they stop after the same step.
        told = zero + (self._world.is_first and self._stop())
        kept = (*names, SECONDS, TEACHER)
        values = torch.stack([*(totals.get(name, zero) for name in kept), damaged, told])
        *sums, audio, taught, skipped, stop = self._world.sum(values).tolist()
        self._told_to_stop = bool(stop)
        times = self._clock.tick(self.stream.waited)
        summed = dict(zip(names, sums, strict=True))
        second = max(times.step_seconds, 1e-9)
        self._recorder.step(
            {
                "step": self.step,
                "epoch": step.epoch,
                "loss": sum(weights[name] * value for name, value in summed.items()),
                **summed,
                **({TEACHER: taught} if self._live and self._live.trained else {}),
                "learning_rate": rate,
                "gradient_norm": float(norm),
                **({} if self._pruner is None else {"sparsity": round(self._pruner.sparsity, 6)}),
                **times.to_dict(),
                "utterances_per_second": round(step.utterances / second, 2),
                "audio_per_second": round(audio / second, 2),
                "damaged": int(skipped),
            }
        )

    def _after_step(self) -> None:
        """Validation, checkpoint and report, where they are due."""
        last = self.step == self._settings.optim.steps
        every = self._settings.checkpoint_every
        values = self._validate(last)
        # The best one is kept as a checkpoint, so that it outlives a kill.
        if self.step % every == 0 or self._over or (values and self.best.step == self.step):
            self._checkpoint()
        elif not values:
            return
        told = {f"validation/{name}": value for name, value in values.items()}
        self._report({"step": self.step, "loss": self._recorder.last["loss"], **told})

    def _validate(self, last: bool) -> dict[str, float]:
        """What a validation gives; nothing where none is due."""
        settings = self._settings.validation
        if settings is None or self._validator is None or (self.step % settings.every and not last):
            return {}
        with self._clock.paused(), self._rounded():
            values = self._validator.run(self.student)
        self.best = self.best.after(values, settings.metric, self.step, settings.min_delta)
        self._recorder.validation({"step": self.step, **values})
        return values

    def _checkpoint(self) -> None:
        if self._world.is_first:
            state = {
                "step": self.step,
                "stream": self.stream.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "best": self.best.to_dict(),
            }
            save_checkpoint(
                self._out,
                self.step,
                self.student,
                state,
                keep=self._settings.keep_checkpoints,
                spare={self.best.step},
                teacher=self._live.trained if self._live else None,
            )
            self._publish()
        self._world.barrier()

    def _publish(self) -> None:
        """Make ``best/`` what this run remembers, unless it is that already."""
        there = read_best(self._out) or {"step": 0}
        if self.best.step != there["step"]:
            publish_best(self._out, self.best.step, self.best.values)

    def _restore(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        self.stream.load_state_dict(state["stream"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.best = Best(**state.get("best", {}))

    def _check_same_start(self) -> None:
        """Every worker must have found the same checkpoint, or they would train apart."""
        furthest = self._world.largest(float(self.step))
        if self.step != furthest:
            raise ConfigError(
                f"A worker finds a checkpoint of step {furthest:.0f} in {self._out} and another "
                f"one of step {self.step}; `out` must be a directory that all of them share."
            )

    def _finish(self) -> None:
        if self._world.is_first:
            self._recorder.finish()
            if self._live is not None and self._live.trained is not None:
                save_teacher(self._out, self._live.trained.eval())
            save_finished(self._out, self.student.eval())
        self._world.barrier()


def _audio_seconds(batch: Batch) -> float:
    """Audio of a micro-batch, padding left out."""
    return 0.0 if batch.audio_lengths_B is None else int(batch.audio_lengths_B.sum()) / SAMPLE_RATE


def _first_student(
    settings: TrainSettings, checkpoints: Sequence[Checkpoint], tokenizer: Tokenizer
) -> Student:
    """That of the newest checkpoint; or of ``init``, as the settings want it; or a new one."""
    if checkpoints:
        return load_student(checkpoints[-1].student)
    if settings.init is not None:
        student = load_student(settings.init)
        if student.kind != settings.student.kind:
            raise ConfigError(
                f"`init` names a student of kind {student.kind}, and student.kind is "
                f"{settings.student.kind}; give student: {{kind: {student.kind}}}."
            )
        student = student.begin(settings.student)
        if settings.begin_from_ctc:
            assert isinstance(student, TransducerStudent)  # the settings have seen to it
            begin_from_ctc(student)
        return student
    return build_student(settings.student, tokenizer)


def _check_spelling(student: Student, tokenizer: Tokenizer) -> None:
    """A student to start from must spell as its data does."""
    if student.tokenizer.fingerprint != tokenizer.fingerprint:
        raise TokenizerError(
            f"The student to start from has another tokenizer "
            f"({student.tokenizer.fingerprint[:12]}) than the data "
            f"({tokenizer.fingerprint[:12]}): class ids would not match."
        )
