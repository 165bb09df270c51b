"""Lhotse cuts: JSON lines of MonoCut or MultiCut, gzipped or not, read by ``lhotse``.

A cut with several supervisions gives one utterance for each of them; any other cut is one
utterance. Refused are: commands and bytes in memory as audio sources, mixed cuts, recordings
with transforms that change the sound, and a choice of some channels of several, because an
utterance of kdcache is a stretch of one file.
"""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

from kdcache.corpus.importers.paths import resolve
from kdcache.errors import ManifestError, MissingDependencyError
from kdcache.types import AudioRef, Utterance

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SAFE_TRANSFORMS = {"Resample"}  # load_audio resamples anyway


def read_lhotse(path: Path) -> list[Utterance]:
    """Utterances in the order of the cuts.

    Raises:
        ManifestError: the file or one of its cuts cannot be used; the line is named.
        MissingDependencyError: lhotse is not installed.
    """
    folder = path.absolute().parent
    return [
        utterance
        for where, cut in _iter_cuts(path)
        for utterance in _utterances(cut, where, folder)
    ]


def _iter_cuts(path: Path) -> Iterator[tuple[str, Any]]:
    deserialize = _deserializer()
    for where, row in _iter_rows(path):
        if not isinstance(row, dict) or not str(row.get("type")).endswith("Cut"):
            raise ManifestError(f"{where} is no Lhotse cut; expected a JSON object with 'type'.")
        if row["type"] not in ("MonoCut", "MultiCut", "Cut"):
            raise ManifestError(
                f"{where} is a {row['type']}; expected MonoCut or MultiCut: save the mixed audio "
                "with lhotse's `save_audios` first."
            )
        try:
            yield where, deserialize(row)
        except (KeyError, TypeError, ValueError, AttributeError, AssertionError) as error:
            raise ManifestError(f"{where} is no complete Lhotse cut: {error!r}.") from error


def _deserializer() -> Any:
    try:
        from lhotse.serialization import deserialize_item
    except ImportError as error:
        raise MissingDependencyError(
            f"Lhotse cuts need lhotse: pip install 'kdcache[lhotse]' ({error})."
        ) from error
    return deserialize_item


def _iter_rows(path: Path) -> Iterator[tuple[str, Any]]:
    """(where, JSON value) of each line. Lhotse's own opener would run ``pipe:`` commands."""
    try:
        with path.open("rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if zipped else path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield f"{path}, line {number}", json.loads(line)
    except ValueError as error:
        raise ManifestError(f"{path}, line {number} is not JSON.") from error
    except (OSError, EOFError) as error:
        raise ManifestError(f"{path} cannot be read: {error}.") from error


def _utterances(cut: Any, where: str, folder: Path) -> Iterator[Utterance]:
    path = _audio_path(cut, where, folder)
    spoken = list(cut.supervisions)
    if len(spoken) <= 1:
        text = spoken[0].text if spoken else None
        speaker = spoken[0].speaker if spoken else None
        yield Utterance(cut.id, AudioRef(path, cut.start, cut.duration), text or "", speaker)
        return
    for part in spoken:  # a supervision's times count from the start of its cut
        audio = AudioRef(path, round(cut.start + part.start, 6), part.duration)
        yield Utterance(part.id, audio, part.text or "", part.speaker)


def _audio_path(cut: Any, where: str, folder: Path) -> str:
    recording = cut.recording
    if recording is None or not recording.sources:
        raise ManifestError(f"{where}: cut {cut.id!r} has no recording; features are not used.")
    if len(recording.sources) > 1:
        raise ManifestError(f"{where}: cut {cut.id!r} has several audio files, expected one.")
    source = recording.sources[0]
    if source.type not in ("file", "url"):
        raise ManifestError(
            f"{where}: the audio of cut {cut.id!r} is of type {source.type!r}, expected 'file' or "
            "'url'; kdcache executes no command: save the audio to files first."
        )
    _refuse_changed_sound(cut, recording, where)
    return resolve(str(source.source), folder)


def _refuse_changed_sound(cut: Any, recording: Any, where: str) -> None:
    changes = [_transform_name(transform) for transform in recording.transforms or []]
    changes = [name for name in changes if name not in _SAFE_TRANSFORMS]
    if changes:
        raise ManifestError(
            f"{where}: cut {cut.id!r} transforms its audio ({', '.join(changes)}); save the "
            "audio with lhotse's `save_audios` first."
        )
    chosen = {cut.channel} if isinstance(cut.channel, int) else set(cut.channel)
    if chosen != set(recording.channel_ids):
        raise ManifestError(
            f"{where}: cut {cut.id!r} takes channels {sorted(chosen)} of "
            f"{sorted(recording.channel_ids)}; save them to files of their own first."
        )


def _transform_name(transform: Any) -> str:
    if isinstance(transform, dict):
        return str(transform.get("name"))
    return type(transform).__name__
