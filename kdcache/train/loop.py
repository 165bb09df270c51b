"""The training loop of one worker: no Ray in it, so that it can be run and tested alone."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
import xxhash

from kdcache.batch import to_device
from kdcache.errors import TokenizerError
from kdcache.student import build_student, load_student
from kdcache.student.augment import SpecAugment
from kdcache.student.noise import NoiseAugment, add_noise
from kdcache.train.alignment import alignment_of
from kdcache.train.checkpoint import (
    finished_student,
    list_checkpoints,
    save_checkpoint,
    save_finished,
)
from kdcache.train.data import load_data
from kdcache.train.metrics import append_metrics, drop_metrics_after, save_shuffle
from kdcache.train.objective import loss_terms, weighted_sum
from kdcache.train.stall import StallClock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kdcache.batch import Batch
    from kdcache.corpus.tokenizer import Tokenizer
    from kdcache.stream.stream import Step
    from kdcache.student import TransducerStudent
    from kdcache.train.settings import OptimSettings, TrainSettings
    from kdcache.train.world import World


class Trainer:
    """One worker's state: student, optimiser, stream, step.

    Args:
        settings: of the run, alike on every worker.
        world: this worker's place.
        report: called at each checkpoint, on every worker, with the step's metrics.
    """

    def __init__(
        self,
        settings: TrainSettings,
        world: World,
        report: Callable[[dict[str, Any]], None] = lambda _: None,
    ) -> None:
        self._settings, self._world, self._report = settings, world, report
        self._out = settings.out
        self._out.mkdir(parents=True, exist_ok=True)
        self.step = 0
        self.stream, tokenizer = load_data(settings, world)
        torch.manual_seed(settings.seed)
        checkpoints = list_checkpoints(self._out)
        start = checkpoints[-1].student if checkpoints else settings.init
        student = (
            build_student(settings.student, tokenizer) if start is None else load_student(start)
        )
        _check_spelling(student, tokenizer)
        self.student = student.to(world.device)
        self._weights = settings.loss
        clocks = (self.stream.source.frame_shift, student.frame_shift)
        self._alignment = alignment_of(settings.align, settings.loss, *clocks)
        self.optimizer = _optimizer(self.student, settings.optim)
        if checkpoints:
            self._restore(checkpoints[-1].training_state())
        if world.is_first:
            drop_metrics_after(self._out, self.step)

    def run(self) -> Path:
        """Train to the last step; returns the directory of the finished student."""
        steps = self._settings.optim.steps
        self._tell_shuffle()
        self._clock = StallClock(self._world)
        while self.step < steps:
            for step in self.stream.steps():
                self._train_step(step)
                if self.step % self._settings.checkpoint_every == 0 or self.step == steps:
                    self._checkpoint()
                if self.step == steps:
                    break
        return self._finish()

    def _tell_shuffle(self) -> None:
        window = self.stream.window_shards
        quality = self.stream.shuffle_quality() if window and self._world.is_first else None
        if window and quality:
            save_shuffle(self._out, window, quality)

    def _train_step(self, step: Step) -> None:
        self.student.train()
        self._weights = self._settings.loss.at(self.step)
        rate = learning_rate(self.step, self._settings.optim)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        totals = self._backward(step)
        self._world.sum_gradients(self.student.parameters())
        norm = torch.nn.utils.clip_grad_norm_(
            self.student.parameters(), self._settings.optim.clip_norm
        )
        self.optimizer.step()
        self.step += 1
        self._log(step, totals, rate, norm)

    def _backward(self, step: Step) -> dict[str, torch.Tensor]:
        """Accumulate gradients of this worker's micro-batches; summed terms by name."""
        totals: dict[str, torch.Tensor] = {}
        for place, batch in enumerate(step.batches):
            self._seed(place * self._world.size + self._world.rank)
            terms = self._terms(to_device(batch, self._world.device))
            loss = weighted_sum(terms, self._weights) / step.utterances
            loss.backward()  # type: ignore[no-untyped-call]
            for name, values_B in terms.items():
                totals[name] = totals.get(name, 0.0) + values_B.detach().sum() / step.utterances
        return totals

    def _terms(self, batch: Batch) -> dict[str, torch.Tensor]:
        augment = None
        if self._settings.augment:
            augment = replace(SpecAugment(), seed=self._settings.seed, step=self.step)
        if self._settings.noise is not None:
            noise = NoiseAugment(self._settings.noise, seed=self._settings.seed, step=self.step)
            batch = add_noise(batch, noise)
        output = self.student(batch, augment)
        return loss_terms(output, batch, self.student.blank, self._weights, self._alignment)

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
        values = torch.stack([*(totals.get(name, zero) for name in names), damaged])
        *sums, skipped = self._world.sum(values).tolist()
        times = self._clock.tick(self.stream.waited)
        summed = dict(zip(names, sums, strict=True))
        if not self._world.is_first:
            return
        record = {
            "step": self.step,
            "epoch": step.epoch,
            "loss": sum(weights[name] * value for name, value in summed.items()),
            **summed,
            "learning_rate": rate,
            "gradient_norm": float(norm),
            **times.to_dict(),
            "damaged": int(skipped),
        }
        append_metrics(self._out, record)

    def _checkpoint(self) -> None:
        self._world.average_buffers(self.student)
        if self._world.is_first:
            state = {
                "step": self.step,
                "stream": self.stream.state_dict(),
                "optimizer": self.optimizer.state_dict(),
            }
            save_checkpoint(self._out, self.step, self.student, state)
        self._world.barrier()
        self._report({"step": self.step})

    def _restore(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        self.stream.load_state_dict(state["stream"])
        self.optimizer.load_state_dict(state["optimizer"])

    def _finish(self) -> Path:
        if self._world.is_first:
            save_finished(self._out, self.student.eval())
        self._world.barrier()
        return finished_student(self._out)


def learning_rate(step: int, optim: OptimSettings) -> float:
    """Learning rate of the step after ``step`` steps: linear warm-up, then cosine decay."""
    if step < optim.warmup:
        return optim.learning_rate * (step + 1) / optim.warmup
    left = (step - optim.warmup) / max(optim.steps - optim.warmup, 1)
    cosine = 0.5 * (1 + math.cos(math.pi * min(left, 1.0)))
    return optim.learning_rate * (optim.final_fraction + (1 - optim.final_fraction) * cosine)


def _check_spelling(student: TransducerStudent, tokenizer: Tokenizer) -> None:
    """A student to start from must spell as its data does."""
    if student.tokenizer.fingerprint != tokenizer.fingerprint:
        raise TokenizerError(
            f"The student to start from has another tokenizer "
            f"({student.tokenizer.fingerprint[:12]}) than the data "
            f"({tokenizer.fingerprint[:12]}): class ids would not match."
        )


def _optimizer(student: TransducerStudent, optim: OptimSettings) -> torch.optim.AdamW:
    """AdamW; biases, norms and other vectors are not decayed."""
    decayed = [p for p in student.parameters() if p.ndim >= 2]
    free = [p for p in student.parameters() if p.ndim < 2]
    groups = [
        {"params": decayed, "weight_decay": optim.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=optim.learning_rate, betas=(0.9, 0.98))
