"""Score one trained student on one manifest."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from kdcache.corpus import load_audio
from kdcache.errors import InputError
from kdcache.score.decode import decode_labels
from kdcache.score.size import weight_size
from kdcache.score.wer import WordErrorRate, word_error_rate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np

    from kdcache.student import Student, StudentOutput
    from kdcache.types import Utterance


@dataclass(frozen=True, slots=True)
class ScoreReport:
    """What a student achieves.

    Attributes:
        wer: word error rate with its interval.
        utterances, hours: what was decoded.
        parameters: of the network, auxiliary heads left out.
        bytes: of its weights as stored.
        sparsity: share of the weights of its matrices that are exactly zero.
        sparse_bytes: of its weights if zeros were not stored: see ``kdcache.score.size``.
        real_time_factor: seconds of computing ÷ seconds of audio, features included.
        batch_size, threads: what the real-time factor was measured with.
        hypotheses: by utterance id.
    """

    wer: WordErrorRate
    utterances: int
    hours: float
    parameters: int
    bytes: int
    sparsity: float
    sparse_bytes: int
    real_time_factor: float
    batch_size: int
    threads: int
    hypotheses: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return asdict(self)


def count_parameters(student: Student) -> int:
    """Weights of the network that decodes, shared ones counted once."""
    return sum(parameter.numel() for parameter in student.network.parameters())


def score_student(
    student: Student,
    utterances: Sequence[Utterance],
    *,
    weights: Path | None = None,
    batch_size: int = 16,
    progress: Callable[[int, int], None] | None = None,
) -> ScoreReport:
    """Decode ``utterances`` greedily and compare with their transcripts.

    Args:
        student: in evaluation mode.
        utterances: with transcripts.
        weights: the file whose size to report; the parameters' size in memory if ``None``.
        batch_size: utterances decoded together, neighbours in duration.
        progress: called with utterances done and in all.

    Raises:
        InputError: nothing to decode.
        AudioError: an utterance's audio cannot be read.
    """
    if not utterances:
        raise InputError("The manifest holds no utterances; there is nothing to score.")
    ordered = sorted(utterances, key=lambda u: (u.duration, u.id))
    hypotheses: dict[str, str] = {}
    audio_seconds = busy = 0.0
    for start in range(0, len(ordered), batch_size):
        part = ordered[start : start + batch_size]
        samples = [load_audio(u.audio, student.sample_rate) for u in part]
        audio_seconds += sum(map(len, samples)) / student.sample_rate
        begun = time.perf_counter()
        hypotheses.update(zip((u.id for u in part), transcribe(student, samples), strict=True))
        busy += time.perf_counter() - begun
        if progress is not None:
            progress(len(hypotheses), len(ordered))
    size = weight_size(student.network)
    return ScoreReport(
        wer=rate_of(utterances, hypotheses),
        utterances=len(hypotheses),
        hours=audio_seconds / 3600,
        parameters=count_parameters(student),
        bytes=weights.stat().st_size if weights else _weight_bytes(student),
        sparsity=size.sparsity,
        sparse_bytes=size.sparse_bytes,
        real_time_factor=busy / audio_seconds,
        batch_size=batch_size,
        threads=torch.get_num_threads(),
        hypotheses=hypotheses,
    )


@torch.inference_mode()
def transcribe(student: Student, samples: Sequence[np.ndarray]) -> list[str]:
    """Texts of a batch of float32 mono samples at the student's rate."""
    labels = decode_labels(student, hear_samples(student, samples))
    return [student.tokenizer.decode(row) for row in labels]


def hear_samples(student: Student, samples: Sequence[np.ndarray]) -> StudentOutput:
    """What a student hears in float32 mono samples at its rate."""
    lengths_B = torch.tensor([len(row) for row in samples])
    audio_BN = torch.nn.utils.rnn.pad_sequence(
        [torch.from_numpy(row) for row in samples], batch_first=True
    )
    return student.hear(audio_BN, lengths_B)


def rate_of(utterances: Sequence[Utterance], hypotheses: dict[str, str]) -> WordErrorRate:
    """Word error rate of hypotheses by id, with an interval over speakers where they are many."""
    speakers = [u.speaker or u.id for u in utterances]
    # A handful of speakers is too few to resample; then utterances are.
    groups = speakers if len(set(speakers)) >= 10 else None
    texts = [u.text for u in utterances]
    return word_error_rate(texts, [hypotheses[u.id] for u in utterances], groups=groups)


def _weight_bytes(student: Student) -> int:
    return sum(p.numel() * p.element_size() for p in student.network.parameters())
