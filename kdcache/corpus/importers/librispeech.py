"""LibriSpeech trees: ``<speaker>/<chapter>/<speaker>-<chapter>.trans.txt`` beside the audio.

A line of a transcript file is an utterance's id and its text. Its audio is the file of that
name in the same folder. Text is kept as it stands, which in LibriSpeech is upper case.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdcache.errors import ManifestError
from kdcache.types import AudioRef, Utterance

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SUFFIXES = (".flac", ".wav", ".opus", ".ogg", ".mp3")


def read_librispeech(folder: Path) -> list[Utterance]:
    """Utterances in the order of their paths; durations are not told by such a tree.

    Raises:
        ManifestError: a transcript file cannot be read; file and line are named.
    """
    root = folder.absolute()
    files = sorted(root.rglob("*.trans.txt"), key=lambda path: path.as_posix())
    return [utterance for path in files for utterance in _read_file(path)]


def _read_file(path: Path) -> Iterator[Utterance]:
    names = {entry.name for entry in path.parent.iterdir()}
    try:
        lines = path.read_text("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path} is not UTF-8 text.") from error
    for line in filter(str.strip, lines):
        key, _, text = line.strip().partition(" ")
        # Where no audio is there, the usual name is kept, and the check reports it missing.
        suffix = next((end for end in SUFFIXES if key + end in names), SUFFIXES[0])
        audio = AudioRef(str(path.parent / (key + suffix)))
        yield Utterance(key, audio, text.strip(), key.split("-")[0])
