"""What a run says of itself at its end."""

from __future__ import annotations

import shlex
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from kdcache.extract.plan import shown
from kdcache.inspect.text import choice_text

if TYPE_CHECKING:
    from kdcache.corpus.tolerant import BadLine
    from kdcache.store import Choice

_LINES = 3
"""Unusable lines that people are told; ``to_dict`` has them all."""


@dataclass(frozen=True, slots=True)
class ExtractReport:
    """What a run made, read back from the cache.

    Attributes:
        cache: where it is.
        utterances: of the corpus.
        done: of the corpus, committed by this run.
        skipped: of the corpus, in the cache before it.
        failed: ids of the corpus that could not be used, by code, in this run or before.
        left: ids that were neither reached nor failed, because the run was stopped.
        messages: of the failed ones, by id.
        hours: of audio of the corpus in the cache.
        bytes: of the cache's visible files.
        seconds: that the run took, start of Ray included.
        content_digest: of all that the cache holds.
        stopped_by: number of the signal that ended the run, or ``None``.
        choices: how settings came about that were chosen for a goal, now or when it was begun.
        bad_lines: of the manifests, that were passed over.
    """

    cache: str
    utterances: int
    done: int
    skipped: int
    failed: dict[str, tuple[str, ...]]
    left: tuple[str, ...]
    messages: dict[str, str]
    hours: float
    bytes: int
    seconds: float
    content_digest: str
    stopped_by: int | None = None
    choices: tuple[Choice, ...] = ()
    bad_lines: tuple[BadLine, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every utterance of the corpus is in the cache."""
        return not self.failed and not self.left and not self.bad_lines

    @property
    def absent(self) -> int:
        """Utterances of the corpus that the cache does not hold."""
        return len(self.left) + sum(map(len, self.failed.values()))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "cache": self.cache,
            "complete": self.complete,
            "utterances": self.utterances,
            "done": self.done,
            "skipped": self.skipped,
            "failed": {code: list(ids) for code, ids in self.failed.items()},
            "messages": self.messages,
            "left": list(self.left),
            "bad_lines": [asdict(line) for line in self.bad_lines],
            "hours": self.hours,
            "bytes": self.bytes,
            "seconds": self.seconds,
            "content_digest": self.content_digest,
            "choices": [choice.to_dict() for choice in self.choices],
        }

    def lines(self) -> list[str]:
        """The report for people."""
        size = f"{self.bytes / 1e6:.1f} MB"
        lines = [
            f"{self.cache}: {self.utterances - self.absent} of {self.utterances} utterances, "
            f"{self.hours:.2f} h, {size}",
            f"this run: {self.done} done in {self.seconds:.1f} s; {self.skipped} were there",
        ]
        for code, ids in self.failed.items():
            lines.append(f"failed ({code}): {len(ids)}: {shown(ids)}")
            lines.append(f"  {self.messages[ids[0]]}")
        if len(self.messages) > len(self.failed):
            lines.append(f"each of them: kdcache status {shlex.quote(self.cache)} --failures")
        if self.left:
            lines.append(f"not reached: {len(self.left)}")
        lines += self._bad_lines()
        lines += [f"{choice.target}: chosen {choice_text(choice)}" for choice in self.choices]
        return [*lines, f"content digest {self.content_digest}"]

    def _bad_lines(self) -> list[str]:
        if not self.bad_lines:
            return []
        more = len(self.bad_lines) - _LINES
        lines = [f"unusable lines: {len(self.bad_lines)}"]
        lines += [f"  {line.why}" for line in self.bad_lines[:_LINES]]
        return [*lines, f"  … and {more} more"] if more > 0 else lines


def by_code(failed: dict[str, tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """Failures by id as (code, message) → ids by code, the most frequent code first."""
    counts = Counter(code for code, _ in failed.values())
    codes = sorted(counts, key=lambda code: (-counts[code], code))
    return {code: tuple(i for i, (c, _) in failed.items() if c == code) for code in codes}
