"""Manifests of which some lines are unusable: what can be read, and what was passed over.

:func:`~kdcache.corpus.manifest.read_manifest` refuses such a manifest, so that it is mended
before anything is computed. A run that nobody watches would rather do all that it can.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from kdcache.corpus.manifest import DerivedIds, parse_line
from kdcache.errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kdcache.types import Utterance


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line of a manifest that no utterance came of.

    Attributes:
        where: file and line.
        why: one sentence.
    """

    where: str
    why: str


def read_tolerantly(paths: Iterable[str | Path]) -> tuple[list[Utterance], list[BadLine]]:
    """Read manifests whole, in order, as one corpus.

    A line that cannot be read is passed over. Of an id that stands there several times the
    first counts; the very same utterance once more is no fault and is not told.

    Raises:
        ManifestError: a file cannot be read, or nothing in it can be used.
    """
    utterances: dict[str, Utterance] = {}
    bad: list[BadLine] = []
    for path in paths:
        found = _read_one(Path(path), bad)
        for where, utterance in found:
            first = utterances.setdefault(utterance.id, utterance)
            if first != utterance:
                why = f"{where}: id {utterance.id!r} stands further up with another utterance."
                bad.append(BadLine(where, why))
    return list(utterances.values()), bad


def _read_one(path: Path, bad: list[BadLine]) -> list[tuple[str, Utterance]]:
    """Where each utterance stands, and the utterance; adds to ``bad``."""
    found: list[tuple[str, Utterance, bool]] = []
    known = len(bad)
    folder = path.resolve().parent
    for number, raw in enumerate(_lines(path), start=1):
        where = f"{path}, line {number}"
        try:
            if raw.strip():
                found.append((where, *parse_line(_text(raw, where), where, folder)))
        except ManifestError as error:
            bad.append(BadLine(where, error.message))
    if not found:
        first = f" {bad[known].why}" if len(bad) > known else ""
        raise ManifestError(f"{path} holds no utterance; expected one JSON object a line.{first}")
    names = DerivedIds((one.audio for _, one, named in found if not named), folder)
    return [
        (where, one if named else replace(one, id=names.id_of(one.audio)))
        for where, one, named in found
    ]


def _lines(path: Path) -> list[bytes]:
    """Lines as text files have them; bytes, since one that is no UTF-8 must not spoil others."""
    try:
        raw = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        raise ManifestError(f"{path} cannot be read: {error.strerror}.") from error
    return raw.replace(b"\r\n", b"\n").split(b"\n")


def _text(raw: bytes, where: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise ManifestError(f"{where} is not UTF-8 text.") from error
