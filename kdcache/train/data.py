"""What a run learns from: its tokenizer, and the stream of one worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kdcache.corpus import load_tokenizer, read_manifest
from kdcache.errors import ConfigError
from kdcache.store import open_cache
from kdcache.stream import replay_caches, stream_cache, stream_corpus

if TYPE_CHECKING:
    from pathlib import Path

    from kdcache.corpus.tokenizer import Tokenizer
    from kdcache.store import Cache
    from kdcache.stream import Stream
    from kdcache.train.settings import TrainSettings
    from kdcache.train.world import World

SAMPLE_RATE = 16_000
"""Hz that students hear, whatever the corpus has."""


def load_data(settings: TrainSettings, world: World) -> tuple[Stream, Tokenizer]:
    """This worker's stream, and the tokenizer whose ids it carries.

    Raises:
        InputError: cache, corpus, tokenizer and targets are not there or do not fit.
    """
    shared: dict[str, Any] = {
        "batch_seconds": settings.batch_seconds,
        "micro_batches_per_step": settings.micro_batches_per_step,
        "seed": settings.seed,
        "rank": world.rank,
        "world_size": world.size,
        "keep_in_memory": settings.data.keep_in_memory,
        "on_damage": settings.data.on_damage,
    }
    data = settings.data
    if data.cache is None:
        assert data.corpus is not None
        assert data.tokenizer is not None
        tokenizer = load_tokenizer(data.tokenizer)
        utterances = read_manifest(data.corpus)
        return stream_corpus(utterances, tokenizer, SAMPLE_RATE, **shared), tokenizer
    cache = open_cache(data.cache)
    _check_audio(cache, data.corpus, "data")
    tokenizer = load_tokenizer(data.tokenizer or cache.tokenizer_dir)
    shared |= {
        "targets": settings.streamed_targets(),
        "corpus": data.corpus,
        "sample_rate": SAMPLE_RATE,
        "tokenizer": tokenizer,
        "on_other_text": data.on_other_text,
        "window_shards": data.window_shards,
    }
    if data.replay:
        later = [(one.from_step, one.cache) for one in data.replay]
        return replay_caches([(0, cache), *later], **shared), tokenizer
    stream = stream_cache(
        cache,
        disk_cache=data.disk_cache,
        disk_cache_bytes=data.disk_cache_bytes,
        ahead_shards=data.ahead_shards,
        **shared,
    )
    return stream, tokenizer


def load_validation(settings: TrainSettings, world: World, tokenizer: Tokenizer) -> Stream:
    """This worker's share of what the student is tried on, in a fixed order.

    Raises:
        InputError: cache, corpus and targets are not there or do not fit.
    """
    place = settings.validation
    assert place is not None
    shared: dict[str, Any] = {
        "batch_seconds": settings.batch_seconds,
        "micro_batches_per_step": world.size,
        "shuffle": False,
        "rank": world.rank,
        "world_size": world.size,
        "keep_in_memory": settings.data.keep_in_memory,
        "on_damage": settings.data.on_damage,
    }
    if place.cache is None:
        assert place.corpus is not None
        return stream_corpus(read_manifest(place.corpus), tokenizer, SAMPLE_RATE, **shared)
    cache = open_cache(place.cache)
    _check_audio(cache, place.corpus, "validation")
    return stream_cache(
        cache,
        targets=settings.targets(),
        corpus=place.corpus,
        sample_rate=SAMPLE_RATE,
        tokenizer=tokenizer,
        on_other_text=settings.data.on_other_text,
        **shared,
    )


def _check_audio(cache: Cache, corpus: Path | None, section: str) -> None:
    if corpus is None and cache.spec.audio == "none":
        raise ConfigError(
            f"The cache {cache.location} holds no audio and {section}.corpus is not given, so that "
            f"the student would hear nothing; set {section}.corpus to the manifest that it was "
            "made from."
        )
