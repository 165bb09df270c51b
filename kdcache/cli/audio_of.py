"""Where the audio of a cache's utterances is: as a manifest says, or taken out of the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from kdcache.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from kdcache.store import Cache
    from kdcache.types import Utterance


class AudioOf:
    """Utterances with audio.

    Args:
        cache: an open cache.
        manifest: of the corpus; ``None`` to write the cache's own audio to files.
        folder: for these files.
        only: ids that will be asked for; all unless given. No other line of the manifest is kept.

    Attributes:
        missing: utterances so far that the manifest does not have.

    Raises:
        ConfigError: there is neither a manifest nor audio in the cache.
        ManifestError: the manifest cannot be read.
    """

    def __init__(
        self,
        cache: Cache,
        manifest: Path | None,
        folder: Path,
        only: Sequence[str] | None = None,
    ) -> None:
        if manifest is None and cache.spec.audio == "none":
            raise ConfigError(
                f"{cache.location} holds no audio: say where it is with --manifest CORPUS."
            )
        self.missing = 0
        self._cache, self._folder = cache, folder
        self._known = None if manifest is None else _listed_in(manifest, only)
        self._told = cache.catalogue_columns(["id", "text", "speaker", "duration"])

    def duration(self, row: int) -> float:
        """Seconds that are heard, measured."""
        seconds: float = self._told["duration"][row].as_py()
        return seconds

    def utterance(self, row: int) -> Utterance | None:
        """The utterance of a row; ``None`` where the manifest does not have it."""
        name: str = self._told["id"][row].as_py()
        found = self._written(row, name) if self._known is None else self._listed(name)
        self.missing += found is None
        return found

    def _listed(self, name: str) -> Utterance | None:
        from kdcache.corpus.views import parse_view, view_of

        known = self._known or {}
        view = parse_view(name)
        if name in known or view is None or view[0] not in known:
            return known.get(name)
        return view_of(known[view[0]], view[1])

    def _written(self, row: int, name: str) -> Utterance:
        from kdcache.cli.plumbing import writing
        from kdcache.types import AudioRef, Utterance

        path = self._folder / f"{quote(name, safe='')}.flac"
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self._cache.audio(row))
        text, speaker = (self._told[column][row].as_py() for column in ("text", "speaker"))
        return Utterance(
            name, AudioRef(str(path.resolve()), 0.0, self.duration(row)), text or "", speaker
        )


def _listed_in(manifest: Path, only: Sequence[str] | None) -> dict[str, Utterance]:
    """Utterances of a manifest by id: all, or those that are asked for and whose views are."""
    from kdcache.corpus.manifest import iter_manifest, read_manifest
    from kdcache.corpus.views import parse_view

    if only is None:
        return {one.id: one for one in read_manifest(manifest)}
    views = (parse_view(key) for key in only)
    wanted = {*only, *(view[0] for view in views if view is not None)}
    return {one.id: one for one in iter_manifest(manifest) if one.id in wanted}
