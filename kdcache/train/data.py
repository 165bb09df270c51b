"""What a run learns from: its tokenizer, and the stream of one worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kdcache.corpus import load_tokenizer, read_manifest
from kdcache.errors import ConfigError
from kdcache.store import open_cache
from kdcache.stream import stream_cache, stream_corpus

if TYPE_CHECKING:
    from kdcache.corpus.tokenizer import Tokenizer
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
    if data.corpus is None and cache.spec.audio == "none":
        raise ConfigError(
            f"The cache {data.cache} holds no audio and data.corpus is not given, so that the "
            "student would hear nothing; set data.corpus to the manifest that it was made from."
        )
    tokenizer = load_tokenizer(data.tokenizer or cache.tokenizer_dir)
    stream = stream_cache(
        cache,
        targets=settings.targets(),
        corpus=data.corpus,
        sample_rate=SAMPLE_RATE,
        tokenizer=tokenizer,
        on_other_text=data.on_other_text,
        window_shards=data.window_shards,
        disk_cache=data.disk_cache,
        disk_cache_bytes=data.disk_cache_bytes,
        ahead_shards=data.ahead_shards,
        **shared,
    )
    return stream, tokenizer
