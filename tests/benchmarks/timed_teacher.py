"""A teacher that notes when it is asked and how long it takes, wherever it runs.

A thread's seconds are those in which it computes, those in which it waits for a core because others
have it, and those in which it waits for something else. Linux counts the second sort, for each
thread. Taken off, they leave what would have passed on a machine with a core for this thread, so
that a measurement beside other work is worth something.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kdcache.teacher import load_teacher

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from kdcache.corpus.tokenizer import Tokenizer
    from kdcache.teacher import TeacherOutput
    from kdcache.types import TeacherSpec

ADAPTER = "timed_teacher:TimedTeacher"
LOG = "forwards.jsonl"
QUEUED = Path("/proc/thread-self/schedstat")


@dataclass(frozen=True)
class Moment:
    """Of a thread.

    Attributes:
        wall: by the wall's clock, in seconds.
        queued: seconds that the thread has waited for a core.
    """

    wall: float
    queued: float

    @classmethod
    def now(cls) -> Moment:
        """Of the thread that asks; nothing is known of queues but on Linux."""
        queued = int(QUEUED.read_text().split()[1]) / 1e9 if QUEUED.is_file() else 0.0
        return cls(time.monotonic(), queued)


@dataclass(frozen=True)
class Span:
    """Between two moments of one thread."""

    start: Moment
    end: Moment

    @property
    def wall(self) -> float:
        """Seconds that passed."""
        return self.end.wall - self.start.wall

    @property
    def own(self) -> float:
        """Seconds that would have passed with a core for the thread."""
        return self.wall - (self.end.queued - self.start.queued)


class TimedTeacher:
    """The teacher in ``directory``, where it leaves a line for each batch of several utterances."""

    def __init__(self, directory: str | Path, device: str = "cpu", dtype: str = "float32") -> None:
        self._teacher = load_teacher(directory, device, dtype)
        self._log = Path(directory) / LOG

    @property
    def spec(self) -> TeacherSpec:
        """The teacher's."""
        return self._teacher.spec

    @property
    def tokenizer(self) -> Tokenizer:
        """The teacher's."""
        return self._teacher.tokenizer

    def forward(
        self, audio: Sequence[np.ndarray], tokens: Sequence[Sequence[int]]
    ) -> list[TeacherOutput]:
        """The teacher's answer; what is heard in a rehearsal is not noted."""
        start = Moment.now()
        outputs = self._teacher.forward(audio, tokens)
        if len(audio) > 1:
            with self._log.open("a") as log:
                log.write(json.dumps(asdict(Span(start, Moment.now()))) + "\n")
        return outputs


def take_spans(directory: Path) -> list[Span]:
    """What was noted, which is forgotten."""
    path = directory / LOG
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.unlink()
    return [Span(Moment(**line["start"]), Moment(**line["end"])) for line in lines]
