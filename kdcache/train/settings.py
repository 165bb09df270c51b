"""What a training run is: every setting of `kdcache train`."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from kdcache.config import ConfigPath, Settings
from kdcache.errors import did_you_mean
from kdcache.student.prune_settings import PruneSettings
from kdcache.student.quantise_settings import QuantiseSettings
from kdcache.student.settings import AnyStudentSettings, StudentSettings
from kdcache.train.align_settings import AlignSettings
from kdcache.train.data_settings import DataSettings
from kdcache.train.live_settings import LiveSettings
from kdcache.train.ramp import Ramp
from kdcache.train.validation_settings import ValidationSettings

if TYPE_CHECKING:
    import torch

TARGETS = {
    "lattice_kl": "lattice",
    "alignment_kl": "lattice",
    "best_path_kl": "lattice",
    "encoder_kl": "encoder_logits",
    "sequence_kd": "encoder_logits",
    "logit_mse": "frame_logits",
    "hidden_mse": "hidden",
    "hidden_codes": "hidden",
    "full_sum": "full_sum",
    "hypotheses": "hypotheses",
    "decoder_kl": "decoder_logits",
}
"""The cached target that a term of the loss is made of, by the term's name."""


class LossSettings(Settings):
    """Weights of the terms of the loss; a term with weight 0 is not computed. And over what."""

    rnnt: float = Field(default=1.0, ge=0)
    """RNN-T loss, nats per utterance."""

    lattice_kl: float = Field(default=0.0, ge=0)
    """β: collapsed-lattice KL from the cache's ``lattice``, nats summed over the nodes of an
    utterance."""

    alignment_kl: float = Field(default=0.0, ge=0)
    """Divergence of the teacher's alignments from the student's, from the blanks and labels of the
    cache's ``lattice``, nats per utterance."""

    best_path_kl: float = Field(default=0.0, ge=0)
    """Lattice KL at the nodes of the teacher's most probable alignment alone, nats summed over
    those."""

    confidence: float = Field(default=0.0, ge=0)
    """Penalty on certainty, without a teacher: how far blank, label and rest are from equally
    probable, nats summed over the nodes of an utterance, or beside a banded ``lattice`` over those
    of its band. The control of ``lattice_kl``."""

    encoder_kl: float = Field(default=0.0, ge=0)
    """KL from the cache's ``encoder_logits`` to the student's encoder, nats summed over frames;
    needs ``student.joint_kind: additive``, whose own logits it has, or ``student.ctc_head``."""

    encoder_temperature: float = Field(default=1.0, gt=0)
    """τ of ``encoder_kl``: both models' logits are divided by it. Other than 1 it needs all classes
    of every frame in the cache (``top_k: all``), since a sum at τ cannot be had from that at 1."""

    ctc: float = Field(default=0.0, ge=0)
    """CTC loss of the auxiliary head; needs ``student.ctc_head``."""

    lf_mmi: float = Field(default=0.0, ge=0)
    """Lattice-free MMI: −log P(transcript) among all sequences of ``denominator``, nats per
    utterance, of a student of kind ``ctc``."""

    sequence_kd: float = Field(default=0.0, ge=0)
    """KL of the teacher's distribution over all paths of ``denominator``, from the cache's
    ``encoder_logits``, against the student's; nats per utterance."""

    logit_mse: float = Field(default=0.0, ge=0)
    """Squared error of a ``ctc`` student's logits against the cache's ``frame_logits``, mean over
    classes and summed over frames."""

    denominator: ConfigPath | None = None
    """The graph of ``lf_mmi`` and ``sequence_kd``: an n-gram's file, which a pipeline's
    ``denominator`` stage or ``kdcache.loss.save_ngram`` writes."""

    hidden_mse: float = Field(default=0.0, ge=0)
    """Squared error of the projected encoder against the cache's ``hidden``, mean over its
    channels and summed over frames; needs ``student.hidden_head``. Of a ``ctc`` student it is the
    sum over ``student.hidden_layers``, each against the target of that name."""

    hidden_codes: float = Field(default=0.0, ge=0)
    """Cross-entropy of the entries of the codebooks that the cache's ``hidden`` was packed by,
    nats summed over codebooks and frames; needs ``student.codebook_head``."""

    full_sum: float = Field(default=0.0, ge=0)
    """Distance of log P(transcript) from the cache's ``full_sum``, nats per utterance."""

    hypotheses: float = Field(default=0.0, ge=0)
    """RNN-T loss of the cache's ``hypotheses``, each weighted by its probability among them, nats
    per utterance. A lattice of each is computed in both directions, one after the other."""

    attention: float = Field(default=0.0, ge=0)
    """Cross-entropy of the attention decoder, nats summed over an utterance's labels and its
    end."""

    decoder_kl: float = Field(default=0.0, ge=0)
    """KL from the cache's ``decoder_logits`` to the attention decoder, nats summed over an
    utterance's labels and its end."""

    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """The share of each token that ``attention`` spreads evenly over all classes."""

    decoder_end: int | None = Field(default=None, ge=0)
    """Class id by which the teacher of ``decoder_logits`` says that nothing follows, where it is
    not the student's own, which is blank's: of Whisper its end of text."""

    rnnt_in_band: bool = False
    """Confine the RNN-T loss to alignments within the band of the cached ``lattice``, where that
    is banded and ``lattice_kl`` is not 0. The joint network is then evaluated at the band's nodes
    alone: width ÷ (labels + 1) of time and memory, and alignments that the teacher thought
    improbable are not learnt from."""

    rest: Literal["joined", "spread"] = "joined"
    """What of ``encoder_logits`` was not kept is compared as one class (``joined``), or spread over
    the classes that are left, by the cache's model of the rest where it has one (``spread``)."""

    ramps: dict[str, Ramp] = Field(default={})
    """By term, how its weight is reached, for example ``{lattice_kl: {steps: 500}}``."""

    OPTIONS: ClassVar[tuple[str, ...]] = ("encoder_temperature", "label_smoothing")
    """Settings that are numbers, and no weights."""

    @model_validator(mode="after")
    def _ramps_are_of_terms(self) -> LossSettings:
        terms = self._all()
        for name in self.ramps:
            if name not in terms:
                hint = did_you_mean(name, terms)
                raise ValueError(f"should have ramps of {', '.join(terms)}, got {name!r}.{hint}")
        return self

    @model_validator(mode="after")
    def _has_denominator(self) -> LossSettings:
        for name in ("lf_mmi", "sequence_kd"):
            if getattr(self, name) and self.denominator is None:
                raise ValueError(f"should have loss.denominator for loss.{name}")
        return self

    def weights(self) -> dict[str, float]:
        """The terms by name whose weight is not 0."""
        return {name: weight for name, weight in self._all().items() if weight}

    def at(self, step: int) -> LossSettings:
        """The same with the weights of the step that is the first after ``step`` steps."""
        weights = self.weights()
        ramps = {name: ramp for name, ramp in self.ramps.items() if name in weights}
        reached = {name: ramp.weight(weights[name], step) for name, ramp in ramps.items()}
        return self.model_copy(update=reached) if reached else self

    def _all(self) -> dict[str, float]:
        """The weight of every term: those settings that are numbers, but for options."""
        floats = {name: value for name, value in self if isinstance(value, float)}
        return {name: value for name, value in floats.items() if name not in self.OPTIONS}


class OptimSettings(Settings):
    """AdamW with linear warm-up and cosine decay."""

    steps: int = Field(default=1000, ge=1)
    """Optimiser steps."""

    learning_rate: float = Field(default=1e-3, gt=0)
    """Peak learning rate."""

    warmup: int = Field(default=100, ge=0)
    """Steps of linear warm-up."""

    final_fraction: float = Field(default=0.02, ge=0, le=1)
    """Learning rate at the last step ÷ peak."""

    weight_decay: float = Field(default=1e-3, ge=0)
    """Decoupled weight decay, of matrices only."""

    clip_norm: float = Field(default=5.0, gt=0)
    """Greatest norm of the gradient."""


class TrainSettings(Settings):
    """A training run. The same settings always see the same utterances in every step."""

    out: ConfigPath
    """Directory of the run: checkpoints, metrics, the finished student."""

    data: DataSettings
    """What is learnt from."""

    student: AnyStudentSettings = StudentSettings()
    """What is trained."""

    init: ConfigPath | None = None
    """Start from the weights of this trained student instead of random ones."""

    begin_from_ctc: bool = False
    """Let the transducer of ``init`` begin as its own CTC head, which has learnt already where
    labels are: from the first step it says of every node what that head says
    (:func:`kdcache.student.begin_from_ctc`)."""

    freeze: list[str] = Field(default=[])
    """Parts of the student that are left as ``init`` has them, by name: of a transducer
    ``encoder``, ``prediction``, ``joint`` and its heads. They are in evaluation mode: no dropout,
    and the statistics of batch norms stay."""

    loss: LossSettings = LossSettings()
    """What is minimised."""

    live: LiveSettings | None = None
    """A teacher in the process, in the place of a cache's targets, as a control."""

    align: AlignSettings = AlignSettings()
    """Which frames of the teacher and of the student belong together."""

    optim: OptimSettings = OptimSettings()
    """How."""

    prune: PruneSettings | None = None
    """Weights to be set to zero while it is trained, the smallest first; left out: none."""

    quantise: QuantiseSettings | None = None
    """Compute with weights rounded to 8 bits while it is trained, such as ``{begin: 500}``, so that
    it loses less when it is packed; left out: with the weights as they are."""

    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the network's products. Weights, gradients, losses and features are float32."""

    validation: ValidationSettings | None = None
    """What the student is tried on now and then; the best is kept."""

    batch_seconds: float = Field(default=60.0, gt=0)
    """Padded seconds of audio of a micro-batch."""

    micro_batches_per_step: int = Field(default=1, ge=1)
    """Micro-batches of a step on all workers together; at least ``workers``."""

    augment: bool = True
    """SpecAugment on the student's features."""

    noise: tuple[float, float] | None = None
    """Lowest and highest signal-to-noise ratio, in dB, of noise that is added to what the student
    hears: white or pink, in four of five utterances, anew in every step. Its targets stay the
    teacher's of the clean utterance."""

    seed: int = Field(default=0, ge=0)
    """Of weights, order, dropout and masks."""

    workers: int = Field(default=1, ge=1)
    """Ray Train workers."""

    threads: int = Field(default=0, ge=0)
    """Arithmetic threads of a worker; 0 is as many as its CPUs."""

    cpus_per_worker: float = Field(default=1.0, gt=0)
    """CPUs that Ray reserves for a worker."""

    gpu: bool = False
    """One GPU a worker."""

    checkpoint_every: int = Field(default=200, ge=1)
    """Steps between checkpoints."""

    keep_checkpoints: int = Field(default=2, ge=1)
    """The newest to keep; that of the best validation is kept besides."""

    tensorboard: bool = False
    """Write TensorBoard's event files, to ``tensorboard/``, beside ``metrics.jsonl``."""

    max_failures: int = Field(default=3, ge=0)
    """Lost workers to survive."""

    ray_address: str | None = None
    """Address of a Ray cluster, such as ``auto``; left out: one is started on this machine."""

    @model_validator(mode="after")
    def _consistent(self) -> TrainSettings:
        if self.micro_batches_per_step < self.workers:
            raise ValueError(
                f"should have at least as many micro_batches_per_step "
                f"({self.micro_batches_per_step}) as workers ({self.workers})"
            )
        if self.noise is not None and self.noise[0] > self.noise[1]:
            raise ValueError(f"should have the lowest ratio of noise first, got {self.noise}")
        if self.begin_from_ctc and (self.init is None or not _is_with_head(self.student)):
            raise ValueError(
                "should have init, and a transducer with student.ctc_head: true, for "
                "begin_from_ctc: what it begins with is a student whose CTC head was trained"
            )
        for term in self.loss.weights():
            _check_learns(self.student, term)
        for part in self.freeze:
            _check_part(self.student, part)
        if self.targets() and self.data.cache is None and self.live is None:
            asked = " or ".join(f"loss.{name}" for name in self.loss.weights() if name in TARGETS)
            raise ValueError(f"should have data.cache for {asked}")
        if self.live is not None and self.data.replay:
            raise ValueError("should have no data.replay for live, whose teacher is no cache")
        if self.live is not None and not (self.live.train or self.targets()):
            raise ValueError(f"should have a term of {', '.join(TARGETS)} for live")
        if self.prune is not None and self.prune.end > self.optim.steps:
            raise ValueError(
                f"should have prune.end ({self.prune.end}) within optim.steps ({self.optim.steps})"
            )
        if self.validation is not None and self.validation.metric not in self.validated():
            raise ValueError(
                f"should have validation.metric one of {', '.join(self.validated())}, got "
                f"{self.validation.metric!r}"
            )
        return self

    @property
    def dtype(self) -> torch.dtype:
        """``precision`` as torch has it."""
        import torch

        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32

    def validated_loss(self) -> LossSettings:
        """The loss on what the student is tried on: without a cache, that without a teacher."""
        if self.validation is None or self.validation.cache is not None:
            return self.loss
        return self.loss.model_copy(update=dict.fromkeys(TARGETS, 0.0))

    def validated(self) -> tuple[str, ...]:
        """Names of the values that a validation has."""
        assert self.validation is not None
        terms = tuple(self.validated_loss().weights())
        return (*(("loss", *terms) if terms else ()), *(("wer",) if self.validation.decode else ()))

    def streamed_targets(self) -> tuple[str, ...]:
        """Names of the targets that come from the cache: none where the teacher is live."""
        return self.targets() if self.live is None else ()

    def targets(self) -> tuple[str, ...]:
        """Names of the teacher's targets that the loss needs."""
        weights = self.loss.weights()
        found = (self._targets_of(term) for term in TARGETS if term in weights)
        return tuple(dict.fromkeys(target for targets in found for target in targets))

    def _targets_of(self, term: str) -> tuple[str, ...]:
        """Of a term; a student may learn several of the teacher's layers."""
        several = getattr(self.student, "hidden_targets", ()) if term == "hidden_mse" else ()
        return several or (TARGETS[term],)


def _is_with_head(student: AnyStudentSettings) -> bool:
    """Whether it is a transducer with a CTC head."""
    return isinstance(student, StudentSettings) and student.ctc_head


def _check_part(student: AnyStudentSettings, part: str) -> None:
    """Refuse to freeze what students of its kind do not have."""
    parts: tuple[str, ...] = getattr(student, "PARTS", ())
    if part not in parts:
        known = f"of {', '.join(parts)}" if parts else f"empty for kind {student.kind}"
        raise ValueError(f"should have freeze {known}, got {part!r}.{did_you_mean(part, parts)}")


def _check_learns(student: AnyStudentSettings, term: str) -> None:
    """Refuse a term of the loss that the student has nothing for."""
    if term not in student.TERMS:
        can = ", ".join(sorted(student.TERMS))
        raise ValueError(
            f"should have loss.{term}: 0, since a student of kind {student.kind} learns from {can}"
        )
    needed = student.TERMS[term]
    other, serves = getattr(student, "INSTEAD", {}).get(term, ("", None))
    if other and getattr(student, other) == serves:
        return
    if needed and not getattr(student, needed):
        unset = {bool: "true", int: "<number>"}
        value = unset.get(type(getattr(student, needed)), "<settings>")
        raise ValueError(f"should have student.{needed}: {value} for loss.{term}")
