"""How long a frame waits for what it is computed from, and how fast a stream is decoded.

A frame stands for the time from t to t + 1 of its frame shifts, and its time is the beginning of
that: speech that begins there is heard from there on. It is emitted when its chunk's last sample
has come. So the latency of frame t in the chunk of frames [c, c + C) is

    (end of the last sample that frame c + C − 1 hears) − t · shift
        = (c + C − t) · shift + right context

where the right context is what the last frame hears beyond its own shift. It is C · shift plus that
at worst, and (C + 1) / 2 · shift plus that in the mean over a full chunk. The time that computing
takes comes on top, and is measured apart: it belongs to a machine, the latency to the student. A
student that hears whole has the rest of the utterance as its latency.

Shapes: N samples, T frames, V vocabulary with blank.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from kdcache.errors import ConfigError, InputError
from kdcache.score.ctc import greedy_ctc_decode
from kdcache.student.ctc_stream import ChunkedCTC

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from torch import Tensor

    from kdcache.student import CTCStudent, Student

PACKET = 160
"""Samples that arrive at once: 10 ms, as from a telephone line. Latency is known to this."""


@dataclass(frozen=True, slots=True)
class StreamedUtterance:
    """One utterance decoded as it came.

    Attributes:
        labels: greedy label ids.
        logits_TV: of all frames.
        waits: seconds that each frame waited for samples.
        computing: seconds of computing of each chunk.
        seconds: of audio.
    """

    labels: list[int]
    logits_TV: Tensor
    waits: tuple[float, ...]
    computing: tuple[float, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class LatencyReport:
    """Of a student over some utterances.

    Attributes:
        mean_seconds, worst_seconds: latency of frames, as the head of this file defines it.
        frames, utterances: how many that is over.
        real_time_factor: seconds of computing ÷ seconds of audio, chunk by chunk, one utterance at
            a time.
        chunk_seconds: mean time of computing a chunk.
        worst_chunk_seconds: the longest of one; it comes on top of the latency.
        threads: arithmetic threads that computed.
    """

    mean_seconds: float
    worst_seconds: float
    frames: int
    utterances: int
    real_time_factor: float
    chunk_seconds: float
    worst_chunk_seconds: float
    threads: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return asdict(self)


def stream_utterance(
    student: Student, samples: np.ndarray, packet: int = PACKET
) -> StreamedUtterance:
    """Decode one utterance packet by packet.

    Args:
        student: of kind ``ctc``, in evaluation mode; one that hears whole gets all packets first.
        samples: float32 mono at the student's rate.
        packet: samples that arrive at once.

    Raises:
        ConfigError: a student of another kind.
    """
    found = _ctc(student)
    audio_N = torch.from_numpy(samples)
    rate, shift = student.sample_rate, student.frame_shift
    ear: ChunkedCTC | _Whole = _Whole(found) if found.streaming is None else ChunkedCTC(found)
    logits: list[Tensor] = []
    waits: list[float] = []
    computing: list[float] = []

    def take(logits_TV: Tensor, begun: float, heard: int) -> None:
        if not len(logits_TV):
            return
        computing.append(time.perf_counter() - begun)
        start = len(waits)
        waits.extend(heard / rate - t * shift for t in range(start, start + len(logits_TV)))
        logits.append(logits_TV)

    for start in range(0, len(audio_N), packet):
        part_N, begun = audio_N[start : start + packet], time.perf_counter()
        take(ear.feed(part_N), begun, start + len(part_N))
    begun = time.perf_counter()
    take(ear.finish(), begun, len(audio_N))
    logits_TV = torch.cat(logits) if logits else torch.zeros(0, student.blank + 1)
    frames = torch.tensor([len(logits_TV)])
    (labels,) = greedy_ctc_decode(logits_TV[None], frames, student.blank)
    return StreamedUtterance(labels, logits_TV, tuple(waits), tuple(computing), len(samples) / rate)


def latency_report(streamed: Iterable[StreamedUtterance]) -> LatencyReport:
    """What decoding some utterances showed.

    Raises:
        InputError: not one frame was emitted.
    """
    heard = list(streamed)
    waits = [wait for one in heard for wait in one.waits]
    chunks = [seconds for one in heard for seconds in one.computing]
    if not waits:
        raise InputError("No frame was emitted, so that there is no latency; give longer audio.")
    return LatencyReport(
        mean_seconds=sum(waits) / len(waits),
        worst_seconds=max(waits),
        frames=len(waits),
        utterances=len(heard),
        real_time_factor=sum(chunks) / sum(one.seconds for one in heard),
        chunk_seconds=sum(chunks) / len(chunks),
        worst_chunk_seconds=max(chunks),
        threads=torch.get_num_threads(),
    )


class _Whole:
    """A student that hears whole, in the form of one that streams."""

    def __init__(self, student: CTCStudent) -> None:
        self._student, self._heard = student, [torch.zeros(0)]

    def feed(self, samples_N: Tensor) -> Tensor:
        """Nothing yet."""
        self._heard.append(samples_N)
        return samples_N.new_zeros(0, self._student.blank + 1)

    @torch.inference_mode()
    def finish(self) -> Tensor:
        """All of it."""
        audio_N = torch.cat(self._heard)
        output = self._student.hear(audio_N[None], torch.tensor([len(audio_N)]))
        assert output.ctc_logits_BTV is not None
        return output.ctc_logits_BTV[0, : int(output.frames_B)]


def _ctc(student: Student) -> CTCStudent:
    from kdcache.student import CTCStudent

    if not isinstance(student, CTCStudent):
        raise ConfigError(
            f"Latency is measured chunk by chunk, which a student of kind {student.kind} cannot "
            "be decoded; give one of kind ctc."
        )
    return student
