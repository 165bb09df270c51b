"""Kaldi data directories: ``wav.scp``, ``text``, ``utt2spk``, ``segments``, ``utt2dur``.

Each file is a table: a key, blanks, and the rest of the line. Without ``segments`` a
recording is an utterance. Commands in ``wav.scp`` (lines that end in ``|``) and offsets into
archives (``foo.ark:42``) are refused: kdcache executes nothing that a corpus names.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from kdcache.corpus.importers.paths import resolve
from kdcache.errors import ManifestError
from kdcache.types import AudioRef, Utterance

if TYPE_CHECKING:
    from pathlib import Path

_ARCHIVE = re.compile(r"\.(ark|scp)(:\d+)?$")


def read_kaldi(folder: Path) -> list[Utterance]:
    """Utterances in the order of ``segments``, or of ``wav.scp`` where there is none.

    Raises:
        ManifestError: a table cannot be read, an utterance has no recording, or
            ``wav.scp`` has a command; file and line are named.
    """
    recordings = {key: _audio_path(folder, key, value) for key, value in _table(folder, "wav.scp")}
    texts = dict(_table(folder, "text", optional=True))
    speakers = dict(_table(folder, "utt2spk", optional=True))
    return [
        Utterance(key, audio, texts.get(key, ""), speakers.get(key))
        for key, audio in _stretches(folder, recordings)
    ]


def _stretches(folder: Path, recordings: dict[str, str]) -> list[tuple[str, AudioRef]]:
    if (folder / "segments").exists():
        return [
            (key, _segment(folder, key, value, recordings))
            for key, value in _table(folder, "segments")
        ]
    seconds = _durations(folder, "reco2dur") | _durations(folder, "utt2dur")
    return [(key, AudioRef(path, 0.0, seconds.get(key))) for key, path in recordings.items()]


def _segment(folder: Path, key: str, value: str, recordings: dict[str, str]) -> AudioRef:
    where = f"{folder / 'segments'}, utterance {key!r}"
    fields = value.split()
    if len(fields) < 3:
        raise ManifestError(f"{where}: got {value!r}, expected recording, start and end.")
    recording, start, end = fields[0], _seconds(fields[1], where), _seconds(fields[2], where)
    if recording not in recordings:
        raise ManifestError(f"{where}: recording {recording!r} is not in wav.scp.")
    # An end of −1 means the recording's end.
    return AudioRef(recordings[recording], start, None if end == -1 else round(end - start, 6))


def _audio_path(folder: Path, key: str, value: str) -> str:
    where = f"{folder / 'wav.scp'}, recording {key!r}"
    if value.endswith("|") or value.startswith("|"):
        raise ManifestError(
            f"{where} is a command ({value[:60]!r}); kdcache executes none: write the audio to "
            "files and name them."
        )
    if _ARCHIVE.search(value):
        raise ManifestError(f"{where} is in an archive ({value!r}); copy it to an audio file.")
    if not value:
        raise ManifestError(f"{where} has no path.")
    return resolve(value, folder)


def _durations(folder: Path, name: str) -> dict[str, float]:
    return {
        key: _seconds(value, f"{folder / name}, {key!r}")
        for key, value in _table(folder, name, optional=True)
    }


def _seconds(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ManifestError(f"{where}: got {text!r}, expected seconds.")
    return value


def _table(folder: Path, name: str, *, optional: bool = False) -> list[tuple[str, str]]:
    """(key, rest of the line) of each line. A repeated key would silently lose an utterance."""
    path = folder / name
    if optional and not path.exists():
        return []
    try:
        lines = path.read_text("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path} is not UTF-8 text.") from error
    except OSError as error:
        raise ManifestError(f"{path} cannot be read: {error.strerror}.") from error
    rows, seen = [], set()
    for number, line in enumerate(lines, start=1):
        key, _, value = line.strip().replace("\t", " ", 1).partition(" ")
        if not key:
            continue
        if key in seen:
            raise ManifestError(f"{path}, line {number}: {key!r} stands there a second time.")
        seen.add(key)
        rows.append((key, value.strip()))
    return rows
