"""A teacher is heard on a sample before a cache is begun: for goals, models of the rest, codebooks.

A generator, so that whoever runs it can tell how far it is and stop between two steps. The
teacher runs once; answers that goals need are kept on its device until the settings are chosen.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from kdcache.errors import TeacherError
from kdcache.extract.choose import choose
from kdcache.extract.codebooks import CodebookListener, waits_for_codebooks
from kdcache.extract.errand import Errand, Settled, Survey
from kdcache.extract.goals import Asked, parse_wanted
from kdcache.extract.measure import Sample
from kdcache.extract.plan import plan_units
from kdcache.extract.tails import TailListener, waits_for_tail
from kdcache.extract.worker import UnitWorker
from kdcache.target import Reduced
from kdcache.teacher.protocol import LatticeLogits, TeacherOutput
from kdcache.types import TargetSpec

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from torch import Tensor

    from kdcache.extract.goals import Wanted
    from kdcache.extract.worker import Packer
    from kdcache.teacher import Teacher

KEPT_BYTES = 2**30
"""Of answers that are kept; what a larger sample says beyond this is not looked at."""

_AT_ONCE = 8
"""Utterances between two words about progress."""

_PARTS = {
    "encoder_logits": "frame_logits_TV",
    "decoder_logits": "token_logits_UV",
    "lattice": "lattice",
}
"""What the built-in targets with a divergence are made of."""


@dataclass(slots=True)
class _Answers:
    """In the place of a target: keeps answers, as far as they are needed and fit.

    Attributes:
        parts: fields of an output that are needed; ``None`` for all.
        room: bytes that are left; the first that does not fit is the last that is heard.
        held: by id.
    """

    parts: frozenset[str] | None
    room: int
    held: dict[str, TeacherOutput] = field(default_factory=dict)
    name: str = "answers"

    def pack(self, output: TeacherOutput) -> Reduced:
        """Keep one answer; nothing is packed."""
        kept = output if self.parts is None else _only(output, self.parts)
        size = sum(tensor.nbytes for tensor in _tensors(kept))
        if size <= self.room or not self.held:
            self.held[output.utterance] = kept
        self.room -= size
        return Reduced({}, {})


def survey(errand: Errand, teacher: Teacher) -> Generator[Survey, None, Settled]:
    """Hear the sample, estimate and choose.

    Raises:
        ConfigError: a goal cannot be reached, or a target without posteriors asks for a model.
        TeacherError: the teacher fails on the whole sample.
    """
    wanted = parse_wanted(errand.config.targets, errand.config.max_kl)
    asked = [item for item in wanted if isinstance(item, Asked)]
    others = [item for item in wanted if isinstance(item, TargetSpec)]
    models: list[TailListener | CodebookListener] = [
        *(TailListener.of(item, teacher.spec) for item in others if waits_for_tail(item)),
        *(
            CodebookListener.of(item, len(errand.sample))
            for item in others
            if waits_for_codebooks(item)
        ),
    ]
    answers = _Answers(_parts_of(asked), KEPT_BYTES)
    listeners: list[Packer] = [*models, answers] if asked else [*models]
    seconds = yield from _hear(errand, teacher, listeners)
    settled = {}
    for done, model in enumerate(models):
        yield Survey(f"making the model of {model.name}", "models", done, len(models))
        settled[model.name] = model.settled()
    ids = sorted(answers.held.keys() & seconds.keys(), key=lambda i: (seconds[i], i))
    sample = Sample(tuple(answers.held[i] for i in ids), tuple(seconds[i] for i in ids))
    choices = []
    for item in asked:
        search = choose(item, teacher.spec, sample, errand.hours)
        while True:
            try:
                done, total = next(search)
            except StopIteration as found:
                settled[item.name] = found.value.spec
                choices.append(found.value.choice)
                break
            yield Survey(f"choosing settings of {item.name}", "settings", done, total)
    targets = tuple(settled.get(item.name) or _as_it_is(item) for item in wanted)
    return Settled(targets, tuple(choices))


def _hear(
    errand: Errand, teacher: Teacher, listeners: Sequence[Packer]
) -> Generator[Survey, None, dict[str, float]]:
    """Run the teacher; seconds of audio of each utterance that it could answer, by id."""
    config = errand.config
    worker = UnitWorker(teacher, listeners, decode_threads=config.decode_threads)
    plan = plan_units(
        errand.sample, spec="", unit_utterances=_AT_ONCE, batch_seconds=config.batch_seconds
    )
    seconds: dict[str, float] = {}
    why, done = "", 0
    for unit in plan.units:
        result = worker.run(unit)
        seconds |= {packed.utterance.id: packed.duration for packed in result.packed}
        why = next((failed.message for failed in result.failed), why)
        done += len(unit)
        yield Survey("hearing a sample", "utterances", done, len(errand.sample))
    if not seconds:
        raise TeacherError(
            f"Teacher {teacher.spec.name!r} fails on all {done} utterances of the sample from "
            f"which settings were to be found: {why}"
        )
    return seconds


def _as_it_is(item: Wanted) -> TargetSpec:
    assert isinstance(item, TargetSpec), "what has a goal was chosen"
    return item


def _parts_of(asked: Sequence[Asked]) -> frozenset[str] | None:
    """Fields of an output that these targets read, where that is known of all."""
    kinds = {item.base.kind for item in asked}
    return frozenset(_PARTS[kind] for kind in kinds) if kinds <= _PARTS.keys() else None


def _only(output: TeacherOutput, parts: frozenset[str]) -> TeacherOutput:
    """A copy of these fields, which does not hold on to the padded batch."""

    def kept(name: str) -> Any:
        return _copied(getattr(output, name)) if name in parts else None

    return replace(
        output,
        hidden_TD=output.hidden_TD[:0].clone(),
        features_FM=None,
        frame_logits_TV=kept("frame_logits_TV"),
        token_logits_UV=kept("token_logits_UV"),
        lattice=kept("lattice"),
    )


def _copied(part: Tensor | LatticeLogits | None) -> Tensor | LatticeLogits | None:
    if isinstance(part, LatticeLogits):
        encoder_TJ, decoder_UJ = part.encoder_TJ.clone(), part.decoder_UJ.clone()
        return replace(part, encoder_TJ=encoder_TJ, decoder_UJ=decoder_UJ)
    return None if part is None else part.clone()


def _tensors(output: TeacherOutput) -> list[Tensor]:
    lattice = output.lattice
    inner = [] if lattice is None else [lattice.encoder_TJ, lattice.decoder_UJ]
    parts = (output.hidden_TD, output.frame_logits_TV, output.token_logits_UV, output.features_FM)
    return [*(part for part in parts if part is not None), *inner]
