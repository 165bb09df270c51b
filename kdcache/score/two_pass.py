"""Score a transducer with a rescorer: the first pass, the second, and what was there to be had."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from kdcache.corpus import load_audio
from kdcache.errors import ConfigError, InputError
from kdcache.score.nbest import BEAM, n_best
from kdcache.score.report import hear_samples, rate_of
from kdcache.score.rescore import (
    Hypothesis,
    best_of,
    choose_weight,
    least_errors,
    second_scores,
)
from kdcache.student import TransducerStudent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from kdcache.score.wer import WordErrorRate
    from kdcache.student import Student
    from kdcache.types import Utterance

Lists = dict[str, list[Hypothesis]]
"""Hypotheses of each utterance, by its id."""


@dataclass(frozen=True, slots=True)
class SecondPass:
    """What both passes found, before anything is chosen.

    Attributes:
        lists: hypotheses by utterance.
        real_time_factor: seconds of computing, both passes ÷ seconds of audio.
    """

    lists: Lists
    real_time_factor: float


@dataclass(frozen=True, slots=True)
class TwoPassReport:
    """What a two-pass student achieves.

    Attributes:
        first: word error rate of the first pass, the best that the beam search found.
        rescored: that of the second pass.
        oracle: that of the hypotheses nearest to the transcripts, which no second pass can beat.
        weight: μ.
        beam: of the search.
        utterances: how many.
        parameters: of both passes.
        bytes: of their weights in memory.
        real_time_factor: of both passes.
        hypotheses, first_hypotheses: texts by utterance id, rescored and of the first pass.
    """

    first: WordErrorRate
    rescored: WordErrorRate
    oracle: WordErrorRate
    weight: float
    beam: int
    utterances: int
    parameters: int
    bytes: int
    real_time_factor: float
    hypotheses: dict[str, str]
    first_hypotheses: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return asdict(self)


def two_pass_student(student: Student) -> TransducerStudent:
    """``student``, which has a rescorer.

    Raises:
        ConfigError: it has none.
    """
    if not isinstance(student, TransducerStudent) or student.rescorer is None:
        raise ConfigError(
            "The student has no rescorer, so that there is no second pass; train one with "
            "student.rescorer and loss.attention."
        )
    return student


def hypotheses_of(
    student: Student,
    utterances: Sequence[Utterance],
    *,
    beam: int = BEAM,
    batch_size: int = 16,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> SecondPass:
    """Search and rescore, once for all weights.

    Args:
        student: in evaluation mode, with a rescorer.
        utterances: at least one.
        beam: label sequences that stay after each frame, and are rescored.
        batch_size: utterances heard together, neighbours in duration.
        progress: called with utterances done and in all.

    Raises:
        ConfigError: the student has no rescorer.
        InputError: there are no utterances.
        AudioError: an utterance's audio cannot be read.
    """
    whole = two_pass_student(student)
    if not utterances:
        raise InputError("The manifest holds no utterances; there is nothing to score.")
    ordered = sorted(utterances, key=lambda u: (u.duration, u.id))
    lists: Lists = {}
    audio_seconds = busy = 0.0
    for start in range(0, len(ordered), batch_size):
        part = ordered[start : start + batch_size]
        samples = [load_audio(u.audio, student.sample_rate) for u in part]
        audio_seconds += sum(map(len, samples)) / student.sample_rate
        begun = time.perf_counter()
        lists.update(zip((u.id for u in part), _pass_twice(whole, samples, beam), strict=True))
        busy += time.perf_counter() - begun
        progress(len(lists), len(ordered))
    return SecondPass(lists, busy / audio_seconds)


def score_two_pass(
    student: Student,
    utterances: Sequence[Utterance],
    *,
    tune_on: Sequence[Utterance] = (),
    weight: float = 0.5,
    beam: int = BEAM,
    batch_size: int = 16,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> TwoPassReport:
    """Decode ``utterances`` in two passes and compare with their transcripts.

    Args:
        student: in evaluation mode, with a rescorer.
        utterances: with transcripts.
        tune_on: others, on which μ is chosen.
        weight: μ where it is not chosen.
        beam: label sequences that stay after each frame, and are rescored.
        batch_size: utterances heard together.
        progress: called with utterances done and in all, those of ``tune_on`` among them.

    Raises:
        ConfigError: the student has no rescorer.
        InputError: there is nothing to score, or an utterance to choose μ on is to be scored.
        AudioError: an utterance's audio cannot be read.
    """
    both = {u.id for u in utterances} & {u.id for u in tune_on}
    if both:
        raise InputError(
            f"Utterance {min(both)!r} is among those to choose the weight on and among those to "
            "score; the second pass would look better than it is. Choose it on others."
        )
    total = len(utterances) + len(tune_on)
    if tune_on:
        heard = hypotheses_of(
            student,
            tune_on,
            beam=beam,
            batch_size=batch_size,
            progress=lambda done, _: progress(done, total),
        )
        lists = [heard.lists[u.id] for u in tune_on]
        weight = choose_weight(lists, [u.text for u in tune_on])
    found = hypotheses_of(
        student,
        utterances,
        beam=beam,
        batch_size=batch_size,
        progress=lambda done, _: progress(len(tune_on) + done, total),
    )
    return report_two_pass(student, utterances, found, weight=weight, beam=beam)


def report_two_pass(
    student: Student,
    utterances: Sequence[Utterance],
    found: SecondPass,
    *,
    weight: float,
    beam: int = BEAM,
) -> TwoPassReport:
    """Compare what is chosen with the transcripts.

    Args:
        student: whose size to report.
        utterances: with transcripts.
        found: of :func:`hypotheses_of`.
        weight: μ, 0 to 1.
        beam: to report.
    """
    whole = two_pass_student(student)
    first = {u.id: best_of(found.lists[u.id], 0.0).text for u in utterances}
    second = {u.id: best_of(found.lists[u.id], weight).text for u in utterances}
    nearest = {u.id: least_errors(found.lists[u.id], u.text).text for u in utterances}
    assert whole.rescorer is not None
    weights = [*whole.network.parameters(), *whole.rescorer.parameters()]
    return TwoPassReport(
        first=rate_of(utterances, first),
        rescored=rate_of(utterances, second),
        oracle=rate_of(utterances, nearest),
        weight=weight,
        beam=beam,
        utterances=len(utterances),
        parameters=sum(p.numel() for p in weights),
        bytes=sum(p.numel() * p.element_size() for p in weights),
        real_time_factor=found.real_time_factor,
        hypotheses=second,
        first_hypotheses=first,
    )


@torch.inference_mode()
def _pass_twice(
    student: TransducerStudent, samples: Sequence[np.ndarray], beam: int
) -> list[list[Hypothesis]]:
    """Hypotheses of a batch, best of the first pass first."""
    assert student.rescorer is not None
    output = hear_samples(student, samples)
    found = n_best(student, output, beam=beam)
    seconds = second_scores(student.rescorer, output, found)
    spell = student.tokenizer.decode
    return [
        [
            Hypothesis(spell(list(one.labels)), one.score, second)
            for one, second in zip(row, scores, strict=True)
        ]
        for row, scores in zip(found, seconds, strict=True)
    ]
