"""Controls with the teacher in the process, in the one training loop.

Three of them: a frozen teacher, whose targets are what a cache of it would hold; *tandem*
training, where the teacher learns in the same steps as the student that learns from it (in-place
distillation, CoDERT, arXiv 2106.07734); and tandem training with prediction network and joint
network in common, through which the student moves the teacher. The last two cannot be cached.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from kdcache.errors import ConfigError, TokenizerError
from kdcache.student import TransducerStudent, build_student, load_student
from kdcache.student.registry import kind_of
from kdcache.train.live_targets import reductions_of, teach
from kdcache.train.objective import loss_terms, weighted_sum
from kdcache.train.settings import TARGETS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor

    from kdcache.batch import Batch
    from kdcache.student import Student, StudentOutput
    from kdcache.student.augment import SpecAugment
    from kdcache.train.settings import LossSettings, TrainSettings


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a live teacher gives for a micro-batch.

    Attributes:
        batch: with its targets.
        loss: the teacher's own, nats summed over utterances; ``None`` where it is frozen, or where
            ramps give its terms no weight yet.
    """

    batch: Batch
    loss: Tensor | None


class LiveTeacher:
    """A teacher that is one of our own students and hears the same micro-batches.

    Args:
        settings: of the run, with ``live``.
        student: whom it teaches; its decoder becomes the teacher's where they share one.
        saved: directory of the teacher as the last checkpoint has it, if any.

    Raises:
        InputError: there is no such teacher.
        TokenizerError: it spells differently.
        ConfigError: its targets cannot be made, or the two cannot share a decoder.
    """

    def __init__(self, settings: TrainSettings, student: Student, saved: Path | None) -> None:
        live = settings.live
        assert live is not None
        self._trains, self._settings = live.train, settings
        start = live.teacher if saved is None else saved
        if start is not None:
            self.network = load_student(start)
        else:
            self.network = build_student(live.build, student.tokenizer)  # type: ignore[arg-type]
        _check_spelling(self.network, student)
        self.network = self.network.to(student.device).requires_grad_(live.train)
        self._reductions = reductions_of(settings)
        if live.share_decoder:
            _share(student, self.network)

    @property
    def frame_shift(self) -> float:
        """Seconds between two of its frames."""
        return self.network.frame_shift

    @property
    def trained(self) -> Student | None:
        """The teacher, where it is trained and so belongs into checkpoints."""
        return self.network if self._trains else None

    def with_student(self, student: Student) -> nn.Module:
        """All that a step changes."""
        return nn.ModuleList([student, self.network]) if self._trains else student

    def own_weights(self, student: Student) -> Iterator[nn.Parameter]:
        """Weights that are the teacher's alone."""
        shared = {id(weight) for weight in student.parameters()}
        return (weight for weight in self.network.parameters() if id(weight) not in shared)

    def teach(
        self,
        clean: Batch,
        heard: Batch,
        augment: SpecAugment | None,
        loss: LossSettings,
    ) -> Lesson:
        """Targets for what the student hears.

        Args:
            clean: the micro-batch as recorded, which a frozen teacher hears.
            heard: what the student hears, with noise; a teacher that is trained hears that too.
            augment: the student's masks, for a teacher that is trained.
            loss: weights of the step.

        Raises:
            NonFiniteLossError: its own loss is NaN or infinite, by utterance.
        """
        if not self._trains:
            with torch.no_grad():
                output = self.network.eval()(clean)
            return Lesson(teach(self.network, output, heard, self._reductions), None)
        output = self.network.train()(heard, augment, self._settings.dtype)
        batch = teach(self.network, output, heard, self._reductions)
        _check_learns(_own_loss(self._settings.loss, output))
        own = _own_loss(loss, output)
        terms = loss_terms(output, heard, self.network.blank, own)
        return Lesson(batch, weighted_sum(terms, own) if terms else None)


def check_live(settings: TrainSettings) -> None:
    """Find a user's mistakes before anything is loaded.

    Raises:
        InputError: there is no such teacher.
        ConfigError: its targets cannot be made.
    """
    if settings.live is not None:
        if settings.live.teacher is not None:
            kind_of(settings.live.teacher)
        reductions_of(settings)


def _own_loss(loss: LossSettings, output: StudentOutput) -> LossSettings:
    """The terms that need no teacher, as far as this one has what they need."""
    without = dict.fromkeys(TARGETS, 0.0)
    if output.ctc_logits_BTV is None:
        without |= {"ctc": 0.0, "lf_mmi": 0.0}
    if output.joint is None:
        without |= {"rnnt": 0.0, "confidence": 0.0}
    if output.attention_logits_BUV is None:
        without["attention"] = 0.0
    return loss.model_copy(update=without)


def _check_learns(own: LossSettings) -> None:
    if not own.weights():
        raise ConfigError(
            "The live teacher has no term of `loss` to be trained by; give loss.rnnt a weight, or "
            "set live.train: false."
        )


def _share(student: Student, teacher: Student) -> None:
    if not isinstance(student, TransducerStudent) or not isinstance(teacher, TransducerStudent):
        raise ConfigError(
            f"live.share_decoder is true for a student of kind {student.kind} and a teacher of "
            f"kind {teacher.kind}; expected transducers."
        )
    student.share_decoder(teacher)


def _check_spelling(teacher: Student, student: Student) -> None:
    if teacher.tokenizer.fingerprint != student.tokenizer.fingerprint:
        raise TokenizerError(
            f"The live teacher has another tokenizer ({teacher.tokenizer.fingerprint[:12]}) than "
            f"the data ({student.tokenizer.fingerprint[:12]}): class ids would not match."
        )
