"""Check a corpus: its ids and times, the header and end of every audio file, every text.

Nothing is repaired and nothing stops at the first problem: all of them are listed, so that
a corpus is put right in one go. Extraction and training record the same faults one by one.
"""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from kdcache.corpus.audio import TRUNCATION_TOLERANCE, AudioHeader, probe
from kdcache.corpus.durations import THREADS
from kdcache.corpus.manifest import duplicated_ids
from kdcache.errors import AudioError, TranscriptError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from kdcache.corpus.tokenizer import Tokenizer
    from kdcache.types import Utterance

KINDS = {
    "duplicate-id": "ids that stand there more than once",
    "bad-audio": "audio that is missing, unreadable, empty or truncated",
    "bad-duration": "durations that are zero or negative",
    "bad-offset": "offsets that are negative",
    "beyond-end": "utterances that reach beyond the end of their audio",
    "other-duration": "durations that differ from the audio's header",
    "empty-text": "texts that are empty",
    "cannot-spell": "texts that the tokenizer cannot spell",
}
"""Kinds of problems and what each means."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        kind: one of ``KINDS``.
        id: the utterance's.
        detail: one sentence.
    """

    kind: str
    id: str
    detail: str


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a check found.

    Attributes:
        utterances: how many there are.
        files: how many audio files they are in.
        seconds: of all utterances, by the manifest or else by the header.
        problems: in the order of the manifest, kind by kind for each utterance.
    """

    utterances: int
    files: int
    seconds: float
    problems: tuple[Problem, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Problems of each kind that was found, in the order of ``KINDS``."""
        counts = Counter(problem.kind for problem in self.problems)
        return {kind: counts[kind] for kind in KINDS if counts[kind]}

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "utterances": self.utterances,
            "files": self.files,
            "hours": self.seconds / 3600,
            "counts": self.counts,
            "problems": [asdict(problem) for problem in self.problems],
        }

    def describe(self, limit: int = 20) -> str:
        """A few lines for people, at most ``limit`` problems among them; 0 for all."""
        size = f"{self.utterances} utterances in {self.files} files, {self.seconds / 3600:.2f} h"
        if not self.problems:
            return f"{size}: no problem found"
        shown = self.problems[: limit or None]
        lines = [f"{size}: {len(self.problems)} problems"]
        lines += [f"  {count} × {KINDS[kind]}" for kind, count in self.counts.items()]
        lines += [f"{problem.id}: {problem.kind}: {problem.detail}" for problem in shown]
        if len(shown) < len(self.problems):
            lines.append(f"… and {len(self.problems) - len(shown)} more (--limit 0 shows all)")
        return "\n".join(lines)


def check_corpus(
    utterances: Sequence[Utterance],
    tokenizer: Tokenizer | None = None,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> CheckResult:
    """Check every utterance; audio files are opened once each, several at a time.

    Args:
        utterances: the corpus.
        tokenizer: where given, every text must be spelt by it.
        on_progress: called with files done and files in all.
    """
    uses = Counter(utterance.audio.path for utterance in utterances)
    headers = _probe_all(list(uses), on_progress)
    problems = list(_duplicates(utterances))
    seconds = 0.0
    for utterance in utterances:
        header = headers[utterance.audio.path]
        problems += _audio_problems(utterance, header, alone=uses[utterance.audio.path] == 1)
        problems += _text_problems(utterance, tokenizer)
        seconds += _seconds(utterance, header)
    return CheckResult(len(utterances), len(uses), seconds, tuple(problems))


def _probe_all(
    paths: list[str], on_progress: Callable[[int, int], None] | None
) -> dict[str, AudioHeader | AudioError]:
    found: dict[str, AudioHeader | AudioError] = {}
    with ThreadPoolExecutor(THREADS) as pool:
        for path, result in zip(paths, pool.map(_probe_one, paths), strict=True):
            found[path] = result
            if on_progress is not None:
                on_progress(len(found), len(paths))
    return found


def _probe_one(path: str) -> AudioHeader | AudioError:
    try:
        return probe(path)
    except AudioError as error:
        return error


def _duplicates(utterances: Iterable[Utterance]) -> Iterator[Problem]:
    counts = Counter(utterance.id for utterance in utterances)
    for name in duplicated_ids(utterances):
        yield Problem("duplicate-id", name, f"The id stands there {counts[name]} times.")


def _audio_problems(
    utterance: Utterance, header: AudioHeader | AudioError, alone: bool
) -> Iterator[Problem]:
    """``alone``: no other utterance is in the same file, so it should be as long as that."""
    audio, name = utterance.audio, utterance.id
    claimed = audio.duration
    if claimed is not None and claimed <= 0:
        yield Problem("bad-duration", name, f"The duration is {claimed:g} s.")
    if audio.offset < 0:
        yield Problem("bad-offset", name, f"The offset is {audio.offset:g} s.")
    if isinstance(header, AudioError):
        yield Problem("bad-audio", name, header.message)
        return
    length = header.duration
    end = audio.offset + (claimed or 0.0)
    if audio.offset >= length or end > length + TRUNCATION_TOLERANCE:
        detail = f"It ends at {end:.3f} s, and {audio.path} is {length:.3f} s long."
        yield Problem("beyond-end", name, detail)
    elif alone and not audio.offset and 0 < end < length - TRUNCATION_TOLERANCE:
        detail = f"The manifest claims {claimed:.3f} s, and {audio.path} is {length:.3f} s long."
        yield Problem("other-duration", name, detail)


def _text_problems(utterance: Utterance, tokenizer: Tokenizer | None) -> Iterator[Problem]:
    if not utterance.text.strip():
        yield Problem("empty-text", utterance.id, "The text is empty.")
    elif tokenizer is not None:
        try:
            tokenizer.encode(utterance.text)
        except TranscriptError as error:
            yield Problem("cannot-spell", utterance.id, error.message)


def _seconds(utterance: Utterance, header: AudioHeader | AudioError) -> float:
    audio = utterance.audio
    if audio.duration is not None:
        return max(utterance.duration, 0.0)
    if isinstance(header, AudioError):
        return 0.0
    return max(header.duration - audio.offset, 0.0) / audio.speed
