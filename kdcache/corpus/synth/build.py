"""Build a synthesised corpus: FLAC files, a manifest for each split, and a summary.

OUT/<split>.jsonl          NeMo JSON lines with id
OUT/<split>/<id>.flac      16-bit mono
OUT/summary.json           settings, counts, hours and a digest of all samples; written
                           last, so that a folder with it is whole
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kdcache.corpus.audio import encode_flac
from kdcache.corpus.manifest import write_manifest
from kdcache.corpus.synth.acoustics import rms
from kdcache.corpus.synth.espeak import require_espeak
from kdcache.corpus.synth.utterance import make_utterance
from kdcache.corpus.synth.voices import voices_of_splits
from kdcache.errors import ConfigError
from kdcache.types import AudioRef, Utterance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from kdcache.corpus.synth.settings import SynthSettings

SUMMARY = "summary.json"
_CHUNK = 8


@dataclass(frozen=True, slots=True)
class Made:
    """What is kept in memory of an utterance whose audio has been written."""

    split: str
    utterance: Utterance
    pcm_sha256: str
    level: float
    """RMS in dB below full scale."""
    peak: int
    noise: str | None
    reverb: bool


def synthesise(
    out: str | Path,
    settings: SynthSettings,
    *,
    processes: int | None = None,
    overwrite: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Make the corpus, or find it already made by the same settings.

    Args:
        out: folder for it.
        settings: equal ones give equal samples.
        processes: how many to use; all cores where ``None``. It changes no sample.
        overwrite: remove another synthesised corpus that is there.
        on_progress: called with utterances done and utterances in all.

    Returns:
        The summary that is also written to ``summary.json``.

    Raises:
        MissingDependencyError: espeakng-loader is not installed.
        ConfigError: the folder holds something else, or the settings cannot be met.
    """
    folder = Path(out).resolve()
    voices_of_splits(settings)  # refuses impossible settings before anything is changed
    identity = {**settings.to_dict(), "espeak": require_espeak()}
    found = _existing(folder, identity, overwrite)
    if found is not None:
        return found
    for split in settings.splits:
        (folder / split).mkdir(parents=True, exist_ok=True)
    made = _make_all(folder, settings, processes or os.cpu_count() or 1, on_progress)
    return _write_text_files(folder, identity, made)


def _existing(folder: Path, identity: dict[str, Any], overwrite: bool) -> dict[str, Any] | None:
    """The summary of the same corpus if it is there; clears away what may be replaced.

    What may be replaced: an interrupted run's files, the same corpus with files missing, and
    with ``overwrite`` another synthesised corpus. Never anything else.
    """
    if not folder.exists() or not any(folder.iterdir()):
        return None
    summary = _read_summary(folder)
    if summary is None:
        _refuse_foreign(folder, set(identity["splits"]))
        _clear(folder, identity["splits"])
        return None
    same = summary["settings"] == identity
    if same and not overwrite and _is_whole(folder, identity["splits"]):
        return summary
    if not same and not overwrite:
        raise ConfigError(
            f"{folder} holds a corpus that other settings made; choose another folder, or pass "
            "--overwrite."
        )
    _clear(folder, summary["settings"]["splits"])
    return None


def _refuse_foreign(folder: Path, splits: set[str]) -> None:
    """Raise ConfigError if there is anything but what an interrupted run would leave."""
    names = {*splits, *(f"{split}.jsonl" for split in splits)}
    audio = (path for split in splits for path in (folder / split).glob("*"))
    foreign = [
        path for path in folder.iterdir() if path.name not in names and path.suffix != ".partial"
    ]
    foreign += [path for path in audio if path.suffix != ".flac"]
    if foreign:
        raise ConfigError(
            f"{folder} holds something else than a synthesised corpus ({foreign[0].name}); "
            "choose another folder."
        )


def _is_whole(folder: Path, splits: dict[str, int]) -> bool:
    return all(
        (folder / f"{split}.jsonl").is_file()
        and sum(1 for _ in (folder / split).glob("*.flac")) == count
        for split, count in splits.items()
    )


def _clear(folder: Path, splits: Iterable[str]) -> None:
    (folder / SUMMARY).unlink(missing_ok=True)  # first: what follows is not whole any more
    for split in splits:
        (folder / f"{split}.jsonl").unlink(missing_ok=True)
        shutil.rmtree(folder / split, ignore_errors=True)


def _read_summary(folder: Path) -> dict[str, Any] | None:
    try:
        summary = json.loads((folder / SUMMARY).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    ours = isinstance(summary, dict) and isinstance(summary.get("settings"), dict)
    return summary if ours and isinstance(summary["settings"].get("splits"), dict) else None


def _make_all(
    folder: Path,
    settings: SynthSettings,
    processes: int,
    on_progress: Callable[[int, int], None] | None,
) -> list[Made]:
    jobs = [(split, n) for split, count in settings.splits.items() for n in range(count)]
    made: list[Made] = []
    with _mapper(min(processes, len(jobs) // _CHUNK + 1)) as mapper:
        for one in mapper(partial(_make_one, folder, settings), jobs):
            made.append(one)
            if on_progress is not None:
                on_progress(len(made), len(jobs))
    return made


@contextmanager
def _mapper(processes: int) -> Iterator[Callable[..., Iterable[Made]]]:
    """``map`` over processes, results in order; in this process where one will do."""
    if processes == 1:
        yield map
        return
    # Spawned, not forked: a fork would inherit the threads' locks of whoever calls.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        try:
            yield partial(pool.map, chunksize=_CHUNK)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _make_one(folder: Path, settings: SynthSettings, job: tuple[str, int]) -> Made:
    """Make and write one utterance; runs in a worker."""
    split, number = job
    spoken = make_utterance(settings, split, number)
    path = folder / split / f"{spoken.id}.flac"
    path.write_bytes(encode_flac(spoken.samples, settings.sample_rate))
    duration = len(spoken.samples) / settings.sample_rate
    return Made(
        split=split,
        utterance=Utterance(
            spoken.id, AudioRef(str(path), 0.0, duration), spoken.text, spoken.voice
        ),
        pcm_sha256=hashlib.sha256(spoken.samples.astype("<i2").tobytes()).hexdigest(),
        level=20.0 * float(np.log10(max(rms(spoken.samples / 32768.0), 1e-9))),
        peak=int(np.abs(spoken.samples.astype(np.int32)).max()),
        noise=spoken.noise,
        reverb=spoken.reverb,
    )


def _write_text_files(folder: Path, identity: dict[str, Any], made: list[Made]) -> dict[str, Any]:
    for split in identity["splits"]:
        rows = [one.utterance for one in made if one.split == split]
        write_manifest(folder / f"{split}.jsonl", rows)
    summary = {"settings": identity, **_summary(made, list(identity["splits"]))}
    partial_path = folder / f"{SUMMARY}.partial"
    partial_path.write_text(json.dumps(summary, indent=2) + "\n", "utf-8")
    partial_path.replace(folder / SUMMARY)
    return summary


def _summary(made: list[Made], splits: list[str]) -> dict[str, Any]:
    parts: dict[str, Any] = {}
    seen: set[str] = set()
    for split in splits:
        own = [one for one in made if one.split == split]
        parts[split] = _split_summary(own, seen)
        seen |= {one.utterance.text for one in own}
    return {
        "utterances": len(made),
        "hours": round(sum(one.utterance.duration for one in made) / 3600, 4),
        "pcm_sha256": _digest(made),
        "splits": parts,
    }


def _split_summary(made: list[Made], seen: set[str]) -> dict[str, Any]:
    texts = [one.utterance.text for one in made]
    words = Counter(word for text in texts for word in text.split())
    seconds = [one.utterance.duration for one in made]
    return {
        "utterances": len(made),
        "hours": round(sum(seconds) / 3600, 4),
        "seconds": {"min": round(min(seconds), 3), "max": round(max(seconds), 3)},
        "words": sum(words.values()),
        "vocabulary": len(words),
        "voices": len({one.utterance.speaker for one in made}),
        "texts_in_earlier_splits": sum(text in seen for text in texts),
        "noise": dict(sorted(Counter(one.noise or "none" for one in made).items())),
        "reverberant": sum(one.reverb for one in made),
        "level_db": round(float(np.mean([one.level for one in made])), 2),
        "peak": max(one.peak for one in made),
        "pcm_sha256": _digest(made),
    }


def _digest(made: list[Made]) -> str:
    """Hex SHA-256 over the digests of the samples, in order."""
    return hashlib.sha256("".join(one.pcm_sha256 for one in made).encode()).hexdigest()
