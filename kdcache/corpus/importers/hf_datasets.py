"""Data sets that Hugging Face's ``datasets`` saved with ``save_to_disk``.

Columns are found by their usual names. Audio that is a path stays where it is; embedded
bytes are written out as files, as they are, into a folder of the caller's choice.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdcache.corpus.importers.paths import resolve
from kdcache.errors import ManifestError, MissingDependencyError
from kdcache.types import AudioRef, Utterance

if TYPE_CHECKING:
    from collections.abc import Iterable

ID_COLUMNS = ("id", "utt_id", "segment_id", "audio_id", "key")
TEXT_COLUMNS = ("text", "transcription", "transcript", "sentence", "normalized_text")
SPEAKER_COLUMNS = ("speaker_id", "speaker", "client_id")

_MAGIC = {b"fLaC": ".flac", b"RIFF": ".wav", b"OggS": ".ogg", b"ID3": ".mp3", b"\xff\xfb": ".mp3"}


def read_datasets(folder: Path, audio_dir: Path | None) -> list[Utterance]:
    """Utterances in the order of the rows.

    Args:
        folder: what ``Dataset.save_to_disk`` wrote.
        audio_dir: where embedded audio goes; ``None`` if that is not wanted.

    Raises:
        ManifestError: it is no data set with audio, or a dict of splits, or embeds audio
            while ``audio_dir`` is ``None``.
        MissingDependencyError: datasets is not installed.
    """
    table = _load(folder)
    columns = list(table.column_names)
    audio = _audio_column(table, folder)
    names = [_first(columns, known) for known in (ID_COLUMNS, TEXT_COLUMNS, SPEAKER_COLUMNS)]
    ids, texts, speakers = (table[name] if name else [None] * len(table) for name in names)
    stems = _Stems()
    return [
        _utterance(stems, index, folder, audio_dir, *row)
        for index, row in enumerate(zip(table[audio], ids, texts, speakers, strict=True))
    ]


def _load(folder: Path) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise MissingDependencyError(
            "Hugging Face data sets need datasets: pip install 'kdcache[datasets]'."
        ) from error
    try:
        found = datasets.load_from_disk(str(folder))
    except Exception as error:  # pyarrow, json and datasets raise many kinds; each means this
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ManifestError(f"{folder} is no data set that can be read: {reason}") from error
    if isinstance(found, datasets.DatasetDict):
        splits = ", ".join(found)
        first = folder / next(iter(found), "train")
        raise ManifestError(f"{folder} holds the splits {splits}; give one of them, as {first}.")
    return _undecoded(found, datasets)


def _undecoded(table: Any, datasets: Any) -> Any:
    """Decoding needs torchcodec, and is soundfile's work here."""
    for name, feature in table.features.items():
        if isinstance(feature, datasets.Audio):
            table = table.cast_column(name, datasets.Audio(decode=False))
    return table


def _audio_column(table: Any, folder: Path) -> str:
    typed = [n for n, feature in table.features.items() if type(feature).__name__ == "Audio"]
    if len(typed) == 1:
        return str(typed[0])
    if "audio" in table.column_names:
        return "audio"
    columns = ", ".join(table.column_names)
    raise ManifestError(
        f"{folder} has {len(typed)} audio columns, expected one of type Audio, or one named "
        f"'audio'; its columns are: {columns}."
    )


def _first(columns: list[str], known: Iterable[str]) -> str | None:
    return next((name for name in known if name in columns), None)


class _Stems:
    """Names for utterances without an id: their file's stem, numbered where it repeats."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def name(self, path: str | None, index: int) -> str:
        stem = Path(path).stem if path else ""
        name = stem if stem and stem not in self._seen else f"{stem or 'utt'}-{index:08d}"
        self._seen.add(name)
        return name


def _utterance(
    stems: _Stems,
    index: int,
    folder: Path,
    audio_dir: Path | None,
    audio: Any,
    name: Any,
    text: Any,
    speaker: Any,
) -> Utterance:
    if isinstance(audio, str):
        audio = {"path": audio}
    if not isinstance(audio, dict) or not (audio.get("path") or audio.get("bytes")):
        raise ManifestError(f"{folder}, row {index}: there is neither a path nor bytes of audio.")
    key = str(name) if name is not None else stems.name(audio.get("path"), index)
    path = _place(audio, key, index, folder, audio_dir)
    return Utterance(
        key, AudioRef(path), str(text or ""), None if speaker is None else str(speaker)
    )


def _place(
    audio: dict[str, Any], key: str, index: int, folder: Path, audio_dir: Path | None
) -> str:
    """Path of the audio; embedded bytes are written there first."""
    data = audio.get("bytes")
    if data is None:
        return resolve(str(audio["path"]), folder)
    if audio_dir is None:
        raise ManifestError(f"{folder} embeds its audio; say where to write it (--audio-dir).")
    # The index keeps names apart that differ only in what a file name may not hold.
    safe = re.sub(r"[^\w.-]+", "_", key)
    target = audio_dir.absolute() / f"{index:08d}-{safe}{_suffix(audio.get('path'), data)}"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    return str(target)


def _suffix(path: str | None, data: bytes) -> str:
    known = next((end for magic, end in _MAGIC.items() if data.startswith(magic)), None)
    return known or (Path(path).suffix if path else "") or ".audio"
