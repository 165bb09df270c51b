"""Digests of what stages make and read: by content, not by time or place."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from kdcache.config.settings import is_url
from kdcache.errors import InputError
from kdcache.store.header import HEADER

if TYPE_CHECKING:
    from collections.abc import Iterable

_CHUNK = 1 << 20


def digest_of(place: Path | str) -> str:
    """SHA-256 of a file, of the names and bytes in a folder, or a cache's content digest.

    Names that begin with a full stop are left out: they are nobody's result.

    Raises:
        InputError: there is nothing at ``place``.
    """
    if is_url(str(place)) or (Path(place) / HEADER).is_file():
        from kdcache.store import open_cache

        return open_cache(str(place)).content_digest()
    path = Path(place)
    if path.is_file():
        return _of_file(path)
    if path.is_dir():
        return _of_files(path, (found for found in path.rglob("*") if found.is_file()))
    raise InputError(f"{path} is not there; a stage of the recipe reads it. Make it first.")


def combined(parts: Iterable[str]) -> str:
    """One digest of many, in their order."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _of_files(folder: Path, files: Iterable[Path]) -> str:
    named = sorted((path.relative_to(folder).as_posix(), path) for path in files)
    shown = [(name, path) for name, path in named if not _hidden(name)]
    return combined(f"{name} {_of_file(path)}" for name, path in shown)


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _of_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
