"""How fast a student decodes one utterance after the other, in one thread."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from kdcache.corpus import load_audio
from kdcache.score.report import transcribe

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kdcache.student import Student
    from kdcache.types import Utterance


def single_real_time_factor(
    student: Student, utterances: Sequence[Utterance], count: int, repeats: int = 3
) -> float:
    """Seconds of computing ÷ seconds of audio at batch 1 in one thread, features included.

    The first utterance is decoded once before, and of several rounds the fastest counts: what
    else a machine does only ever makes it slower.

    Args:
        student: in evaluation mode.
        utterances: to choose from, at least one.
        count: how many, at even distances in their duration; all where there are fewer.
        repeats: rounds.

    Raises:
        AudioError: an utterance's audio cannot be read.
    """
    ordered = sorted(utterances, key=lambda u: (u.duration, u.id))
    step = max(len(ordered) // count, 1)
    chosen = [load_audio(u.audio, student.sample_rate) for u in ordered[step // 2 :: step][:count]]
    seconds = sum(map(len, chosen)) / student.sample_rate
    with _one_thread():
        transcribe(student, chosen[:1])
        rounds = []
        for _ in range(repeats):
            begun = time.perf_counter()
            for samples in chosen:
                transcribe(student, [samples])
            rounds.append(time.perf_counter() - begun)
    return min(rounds) / seconds


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
