"""The audio of an utterance, to draw or to play: from the corpus, or from its cache."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kdcache.cli.audio_of import AudioOf
from kdcache.cli.plumbing import say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcache.inspect.picture import Sound
    from kdcache.store import Cache

FULL_SCALE = 32768.0
"""Of 16-bit samples."""


class SoundOf:
    """Sounds of a cache's utterances.

    Args:
        cache: an open cache.
        manifest: of the corpus; ``None`` for the cache's own audio, if it has any.
        ids: those that will be asked for.

    Raises:
        ManifestError: the manifest cannot be read.
    """

    def __init__(self, cache: Cache, manifest: Path | None, ids: Sequence[str]) -> None:
        self._cache, self._manifest = cache, manifest
        self._listed = None if manifest is None else AudioOf(cache, manifest, Path(), ids)

    def read(self, key: str) -> Sound | None:
        """The audio of an utterance; ``None`` where there is none.

        Raises:
            UnknownUtteranceError, DamagedCacheError, AudioError: it cannot be read.
        """
        from kdcache.corpus.audio import decode_flac, load_audio
        from kdcache.inspect.picture import Sound

        if self._listed is not None:
            heard = self._listed.utterance(self._cache.row_of(key))
            if heard is None:
                say(f"{key} is not in {self._manifest}: it is shown without audio.")
                return None
            rate = self._cache.spec.teacher.sample_rate
            return Sound(load_audio(heard.audio, rate), rate)
        if self._cache.spec.audio == "none":
            return None
        samples_N, rate = decode_flac(self._cache.audio(key))
        return Sound(samples_N.astype("float32") / FULL_SCALE, rate)
