"""Manifests of kdcache: NeMo's JSON lines with an ``id``.

One JSON object a line::

    {"id": "1188-133604-0003", "audio_filepath": "1188/1188-133604.flac", "offset": 12.5,
     "duration": 3.2, "text": "…", "speaker": "1188"}

``audio_filepath`` is the only key that must be there; a relative path is resolved against
the manifest's folder. ``speed`` plays the audio faster or slower (``kdcache.corpus.views``).
NeMo's own manifests are read by the same code: without ``id`` (or ``utt_id``) an id is derived
from the path, so that it is the same on every machine. Other keys are ignored.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from kdcache.corpus.views import FASTEST, SLOWEST
from kdcache.errors import ManifestError
from kdcache.types import AudioRef, Utterance

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

ID_KEYS = ("id", "utt_id", "utt")

_TOLD = 80
"""Characters of a wrong value that a message repeats."""


def read_manifest(path: str | Path) -> list[Utterance]:
    """Read a manifest whole.

    Raises:
        ManifestError: it cannot be read, holds no utterance, or has an id twice.
    """
    utterances = list(iter_filled(path))
    refuse_duplicates(utterances, path)
    return utterances


def iter_filled(path: str | Path) -> Iterator[Utterance]:
    """:func:`iter_manifest`, with ManifestError as well where there is no utterance at all."""
    empty = True
    for utterance in iter_manifest(path):
        empty = False
        yield utterance
    if empty:
        raise ManifestError(f"{path} holds no utterance; expected one JSON object a line.")


def iter_manifest(path: str | Path) -> Iterator[Utterance]:
    """Read a manifest line by line, in its order; duplicated ids are not looked for.

    Where a line has no id, the file is read once more, because an id takes the folder or the
    offset in only where the name of the audio file alone would not tell lines apart.

    Raises:
        ManifestError: the file or one of its lines cannot be read; the line is named.
    """
    names: DerivedIds | None = None
    for utterance, named in _iter_lines(Path(path)):
        if named:
            yield utterance
            continue
        if names is None:
            unnamed = (one.audio for one, named in _iter_lines(Path(path)) if not named)
            names = DerivedIds(unnamed, Path(path).resolve().parent)
        yield replace(utterance, id=names.id_of(utterance.audio))


def write_manifest(path: str | Path, utterances: Iterable[Utterance]) -> int:
    """Write a manifest; returns how many utterances it holds.

    Audio below the manifest's folder is written relative to it, so that the folder can be
    moved as a whole. The file appears at once or not at all.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    folder, count = target.resolve().parent, 0
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            for utterance in utterances:
                file.write(json.dumps(to_row(utterance, folder), ensure_ascii=False) + "\n")
                count += 1
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return count


def to_row(utterance: Utterance, folder: Path) -> dict[str, Any]:
    """The JSON object of one utterance, its path relative to ``folder`` where it is below."""
    audio = utterance.audio
    row: dict[str, Any] = {"id": utterance.id, "audio_filepath": _relative(audio.path, folder)}
    if audio.offset:
        row["offset"] = audio.offset
    if audio.duration is not None:
        row["duration"] = audio.duration
    if audio.speed != 1:
        row["speed"] = audio.speed
    row["text"] = utterance.text
    if utterance.speaker is not None:
        row["speaker"] = utterance.speaker
    return row


def refuse_duplicates(utterances: Iterable[Utterance], source: str | Path) -> None:
    """Raise ManifestError, naming the first ids that stand there more than once."""
    refuse_repeated(duplicated_ids(utterances), source)


def refuse_repeated(repeated: Sequence[str], source: str | Path) -> None:
    """:func:`refuse_duplicates` for whoever has found the ids."""
    if repeated:
        named = ", ".join(repr(name) for name in repeated[:3])
        more = f" and {len(repeated) - 3} more" if len(repeated) > 3 else ""
        raise ManifestError(
            f"{source} has ids more than once: {named}{more}; ids must be unique. "
            "`kdcache corpus check` lists them all."
        )


def duplicated_ids(utterances: Iterable[Utterance]) -> list[str]:
    """Ids that stand there more than once, in the order of their first appearance."""
    counts = Counter(utterance.id for utterance in utterances)
    return [name for name, count in counts.items() if count > 1]


class DerivedIds:
    """Ids for utterances that have none, the same on every machine.

    The stem of the audio file; with its folders where other files have the same stem; with
    the offset in milliseconds where several utterances are in the same file.
    """

    def __init__(self, audio: Iterable[AudioRef], folder: Path) -> None:
        self._folder = folder
        self._uses: Counter[str] = Counter(ref.path for ref in audio)
        self._stems = Counter(_stem(path) for path in self._uses)

    def id_of(self, audio: AudioRef) -> str:
        """The id of an utterance with that audio."""
        name = _stem(audio.path)
        if self._stems[name] > 1:
            path = _relative(audio.path, self._folder)
            name = path.rsplit(".", 1)[0].strip("/").replace("/", "-")
        return f"{name}-{round(audio.offset * 1000):09d}" if self._uses[audio.path] > 1 else name


def _stem(path: str) -> str:
    return path.rsplit("/", 1)[-1].rsplit(".", 1)[0]


def _iter_lines(path: Path) -> Iterator[tuple[Utterance, bool]]:
    """Each line's utterance, and whether it has an id."""
    folder = path.resolve().parent
    try:
        # Some editors put a mark before the first line.
        with path.open(encoding="utf-8-sig") as file:
            for number, text in enumerate(file, start=1):
                if text.strip():
                    yield parse_line(text, f"{path}, line {number}", folder)
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path} is not UTF-8 text; expected JSON lines.") from error
    except OSError as error:
        raise ManifestError(f"{path} cannot be read: {error.strerror}.") from error


def parse_line(text: str, where: str, folder: Path) -> tuple[Utterance, bool]:
    """One line's utterance, and whether it has an id; the id is empty where it has none.

    Raises:
        ManifestError: it cannot be read; ``where`` says which line it is.
    """
    try:
        row = json.loads(text)
    except json.JSONDecodeError as error:
        raise ManifestError(f"{where} is not JSON: {error.msg} at {error.colno}.") from error
    except (ValueError, RecursionError) as error:  # a number or a nesting beyond all bounds
        raise ManifestError(f"{where} cannot be read as JSON: {error}.") from error
    if not isinstance(row, dict):
        raise ManifestError(f"{where} is {type(row).__name__}, expected a JSON object.")
    name = next((row[key] for key in ID_KEYS if row.get(key) is not None), None)
    speaker = row.get("speaker")
    utterance = Utterance(
        id="" if name is None else _parse_id(name, where),
        audio=_parse_audio(row, where, folder),
        text=_parse_text(row, where),
        speaker=None if speaker is None else _parse_unicode("speaker", str(speaker), where),
    )
    return utterance, name is not None


def _parse_id(value: Any, where: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value):
        _refuse(where, "id", value, "a string that is not empty")
    return _parse_unicode("id", str(value), where)


def _parse_audio(row: dict[str, Any], where: str, folder: Path) -> AudioRef:
    path = row.get("audio_filepath")
    if path is None:
        keys = ", ".join(sorted(row)) or "none"
        raise ManifestError(f"{where} has no 'audio_filepath'; its keys are: {keys}.")
    if not isinstance(path, str) or not path:
        _refuse(where, "audio_filepath", path, "a path")
    offset = _parse_seconds(row, "offset", where)
    duration = _parse_seconds(row, "duration", where)
    path = _parse_unicode("audio_filepath", path, where)
    return AudioRef(_absolute(path, folder), offset or 0.0, duration, _parse_speed(row, where))


def _parse_text(row: dict[str, Any], where: str) -> str:
    text = row.get("text")
    if text is not None and not isinstance(text, str):
        _refuse(where, "text", text, "a string")
    return _parse_unicode("text", text or "", where)


def _parse_unicode(key: str, text: str, where: str) -> str:
    """JSON can spell half of a surrogate pair, which no file can hold as text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        _refuse(where, key, text, "Unicode text; half of a surrogate pair is none")
    return text


def _parse_seconds(row: dict[str, Any], key: str, where: str) -> float | None:
    value = row.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not _is_finite(value):
        _refuse(where, key, value, "a finite number of seconds")
    return float(value)


def _is_finite(value: float) -> bool:
    """Whether it is a number that a float can hold; an integer of JSON may be any size."""
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def _parse_speed(row: dict[str, Any], where: str) -> float:
    value = row.get("speed", 1.0)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not SLOWEST <= value <= FASTEST:
        _refuse(where, "speed", value, f"a number from {SLOWEST:g} to {FASTEST:g}")
    return float(value)


def _refuse(where: str, key: str, value: Any, expected: str) -> NoReturn:
    told = json.dumps(value)
    told = told if len(told) <= _TOLD else f"{told[:_TOLD]}…"
    raise ManifestError(f"{where}: {key!r} is {told}, expected {expected}.")


def _absolute(path: str, folder: Path) -> str:
    if "://" in path:
        return path
    return os.path.normpath(folder / Path(path).expanduser())


def _relative(path: str, folder: Path) -> str:
    if "://" in path:
        return path
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links
    for base in (folder, Path(os.path.realpath(folder))):
        if absolute.is_relative_to(base):
            return absolute.relative_to(base).as_posix()
    return str(absolute)
