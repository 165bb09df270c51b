"""Streams of caches and of corpora, put together from their parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kdcache.errors import ConfigError
from kdcache.store.disk_cache import DiskCache
from kdcache.stream.ahead import ShardsAhead
from kdcache.stream.replay import ReplaySource
from kdcache.stream.source import CacheSource, CorpusSource, KeptSource
from kdcache.stream.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from kdcache.corpus.tokenizer import Tokenizer
    from kdcache.store import Cache
    from kdcache.stream.join import OnOtherText
    from kdcache.types import Utterance

WINDOW_SHARDS = 64
"""Shards that are mixed at a time where they come from an object store."""

AHEAD_SHARDS = 8
"""Shards that are fetched before they are needed."""

DISK_CACHE_BYTES = 50 * 10**9
"""What a disk cache holds unless it is told otherwise."""


def stream_cache(
    cache: Cache | str | Path,
    *,
    targets: Sequence[str] | None = None,
    corpus: str | Path | None = None,
    sample_rate: int | None = None,
    tokenizer: Tokenizer | None = None,
    on_other_text: OnOtherText = "raise",
    keep_in_memory: bool = False,
    window_shards: int | None = None,
    disk_cache: str | Path | None = None,
    disk_cache_bytes: int = DISK_CACHE_BYTES,
    ahead_shards: int = AHEAD_SHARDS,
    **settings: Any,
) -> Stream:
    """Stream a cache: padded torch batches with the teacher's targets.

    A cache in an object store is read by ranged requests, an utterance at a time and shuffled
    as a whole, unless ``disk_cache`` names a directory: then its shards are fetched whole, ahead
    of the stream, and mixed within a window.

    Args:
        cache: an open cache, or its path or URL.
        targets: which to decode; all if ``None``.
        corpus, sample_rate, tokenizer, on_other_text: see :class:`CacheSource`.
        keep_in_memory: decode each utterance once and keep it, for small caches.
        window_shards: shards whose rows are mixed at a time. ``None`` is all of them, and
            :data:`WINDOW_SHARDS` where a disk cache is used.
        disk_cache: a local directory for shards of a cache in an object store; several processes,
            and several caches, may share it. A cache in a directory is left where it is.
        disk_cache_bytes: what it may hold; what was used longest ago is deleted.
        ahead_shards: shards to fetch before they are needed.
        settings: see :class:`Stream`.

    Raises:
        ConfigError: see :class:`Stream`; the disk cache is no directory, or a number of shards
            or bytes is not positive.
    """
    from kdcache.store import Cache, open_cache

    opened = cache if isinstance(cache, Cache) else open_cache(cache)
    names = [target.name for target in opened.spec.targets] if targets is None else targets
    fetched = disk_cache is not None and opened.is_remote
    if fetched and window_shards is None:
        window_shards = WINDOW_SHARDS
    shards = None if window_shards is None else opened.shards_of_rows()
    ahead = None
    if fetched:
        assert shards is not None
        assert disk_cache is not None
        _check_positive(disk_cache_bytes=disk_cache_bytes, ahead_shards=ahead_shards)
        opened, reader = opened.through_disk(DiskCache(disk_cache, disk_cache_bytes))
        ahead = ShardsAhead(reader, shards, ahead_shards)
    source = CacheSource(
        opened,
        names,
        corpus=corpus,
        sample_rate=sample_rate,
        tokenizer=tokenizer,
        on_other_text=on_other_text,
    )
    return Stream(
        KeptSource(source) if keep_in_memory else source,
        shards=shards,
        window_shards=window_shards,
        ahead=ahead,
        **settings,
    )


def replay_caches(
    caches: Sequence[tuple[int, Cache | str | Path]],
    *,
    targets: Sequence[str] | None = None,
    corpus: str | Path | None = None,
    sample_rate: int | None = None,
    tokenizer: Tokenizer | None = None,
    on_other_text: OnOtherText = "raise",
    keep_in_memory: bool = False,
    window_shards: int | None = None,
    **settings: Any,
) -> Stream:
    """Stream several caches of one corpus, each from an optimiser step on.

    Utterances of every step are those that the first cache alone would give.

    Args:
        caches: the step from which each is read, growing from 0, and an open cache, path or URL.
        targets, corpus, sample_rate, tokenizer, on_other_text, keep_in_memory: as of
            :func:`stream_cache`, for each of them.
        window_shards: shards of the first cache whose rows are mixed at a time.
        settings: see :class:`Stream`.

    Raises:
        ConfigError: see :class:`Stream` and :class:`kdcache.stream.replay.ReplaySource`.
    """
    from kdcache.store import Cache, open_cache

    opened = [(step, c if isinstance(c, Cache) else open_cache(c)) for step, c in caches]
    parts = []
    for step, cache in opened:
        names = [target.name for target in cache.spec.targets] if targets is None else targets
        source = CacheSource(
            cache,
            names,
            corpus=corpus,
            sample_rate=sample_rate,
            tokenizer=tokenizer,
            on_other_text=on_other_text,
        )
        parts.append((step, source))
    for step, source in parts[1:]:
        if not parts[0][1].has_utterances_of(source):
            raise ConfigError(
                f"The cache that is replayed from step {step} holds other utterances than the "
                "first; extract both from the same manifest, to the end."
            )
    kept = [(step, KeptSource(one) if keep_in_memory else one) for step, one in parts]
    shards = None if window_shards is None else opened[0][1].shards_of_rows()
    return Stream(ReplaySource(kept), shards=shards, window_shards=window_shards, **settings)


def stream_corpus(
    utterances: Iterable[Utterance],
    tokenizer: Tokenizer,
    sample_rate: int,
    *,
    keep_in_memory: bool = False,
    **settings: Any,
) -> Stream:
    """Stream a corpus without a teacher: the same batches with no targets."""
    source = CorpusSource(utterances, tokenizer, sample_rate)
    return Stream(KeptSource(source) if keep_in_memory else source, **settings)


def _check_positive(**numbers: int) -> None:
    for name, value in numbers.items():
        if value < 1:
            raise ConfigError(f"{name} is {value}; it must be positive.")
