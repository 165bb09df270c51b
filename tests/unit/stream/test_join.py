"""Targets from a cache, audio from a corpus: what does not belong together is told by name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from kdcache.corpus import encode_flac, load_audio, to_int16, write_manifest
from kdcache.corpus.views import iter_views, view_of
from kdcache.errors import ConfigError, ManifestError
from kdcache.store import PackedUtterance, create_or_open, open_cache
from kdcache.stream import stream_cache
from kdcache.stream.join import join_corpus
from kdcache.stream.source import CacheSource
from kdcache.testing.samples import TOKENIZER_FILES, sample_packed, sample_spec
from kdcache.types import AudioRef, Utterance

if TYPE_CHECKING:
    from pathlib import Path

    from kdcache.store import Cache

RATE = 16_000
SECONDS = {"a": 0.5, "b": 0.8, "c": 1.1}


def tone(seconds: float) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * RATE)) / RATE)


@pytest.fixture
def corpus(tmp_path: Path) -> list[Utterance]:
    utterances = []
    for name, seconds in SECONDS.items():
        file = tmp_path / f"{name}.flac"
        file.write_bytes(encode_flac(to_int16(tone(seconds)), RATE))
        audio = AudioRef(str(file), duration=seconds)
        utterances.append(Utterance(name, audio, text=f"words of {name}"))
    return utterances


def cache_of(folder: Path, utterances: list[Utterance]) -> Cache:
    """A cache of them, as long as a teacher would have heard them."""
    spec = sample_spec()
    writer = create_or_open(folder / "cache", spec, "zarr", TOKENIZER_FILES)
    packed = [_packed(one) for one in utterances]
    writer.commit("unit", packed, [], "attempt")
    return open_cache(folder / "cache")


def _packed(utterance: Utterance) -> PackedUtterance:
    heard = load_audio(utterance.audio, RATE)
    packed = sample_packed(sample_spec(), utterance.id)
    return replace(packed, utterance=utterance, duration=len(heard) / RATE)


def manifest_of(folder: Path, utterances: list[Utterance]) -> Path:
    write_manifest(folder / "corpus.jsonl", utterances)
    return folder / "corpus.jsonl"


def test_the_same_corpus_joins_in_any_order(tmp_path: Path, corpus: list[Utterance]) -> None:
    cache, manifest = cache_of(tmp_path, corpus), manifest_of(tmp_path, corpus[::-1])
    source = CacheSource(cache, ["hidden"], corpus=manifest)
    for row, name in enumerate(SECONDS):
        example = source.load(row)
        assert (example.id, example.text) == (name, f"words of {name}")
        assert example.audio is not None
        np.testing.assert_allclose(example.audio, tone(SECONDS[name]), atol=1e-4)


def test_another_duration_is_told_by_name(tmp_path: Path, corpus: list[Utterance]) -> None:
    cache = cache_of(tmp_path, corpus)
    corpus[1] = replace(corpus[1], audio=replace(corpus[1].audio, duration=0.7))
    manifest = manifest_of(tmp_path, corpus)
    message = r"1 of the cache's 3 utterances have another duration in .*: b \(0\.800 s in the "
    with pytest.raises(ManifestError, match=message + r"cache, 0\.700 s\)\. Give the manifest"):
        stream_cache(cache, corpus=manifest)


def test_rounding_is_borne(tmp_path: Path, corpus: list[Utterance]) -> None:
    cache = cache_of(tmp_path, corpus)
    rounded = [replace(u, audio=replace(u.audio, duration=u.duration - 0.04)) for u in corpus]
    stream = stream_cache(cache, corpus=manifest_of(tmp_path, rounded))
    assert sum(len(batch) for batch in stream) == 3


def test_a_duration_that_the_manifest_does_not_tell_is_compared_when_it_is_heard(
    tmp_path: Path, corpus: list[Utterance]
) -> None:
    cache = cache_of(tmp_path, corpus)
    silent = [replace(u, audio=replace(u.audio, duration=None)) for u in corpus]
    manifest = manifest_of(tmp_path, silent)
    assert sum(len(batch) for batch in stream_cache(cache, corpus=manifest)) == 3
    (tmp_path / "c.flac").write_bytes(encode_flac(to_int16(tone(0.9)), RATE))
    message = r"audio of utterance 'c' is 0\.900 s long, and its teacher heard 1\.100 s"
    with pytest.raises(ManifestError, match=message):
        list(stream_cache(cache, corpus=manifest))


def test_another_text_is_told_by_name_or_borne(tmp_path: Path, corpus: list[Utterance]) -> None:
    cache = cache_of(tmp_path, corpus)
    corpus[2] = replace(corpus[2], text="other words")
    manifest = manifest_of(tmp_path, corpus)
    with pytest.raises(
        ManifestError, match=r"another text in .*: c \('words of c' in the cache, 'other words'\)"
    ) as raised:
        stream_cache(cache, corpus=manifest)
    assert "set data.on_other_text to keep" in raised.value.message
    stream = stream_cache(cache, corpus=manifest, on_other_text="keep")
    assert sorted(text for batch in stream for text in batch.texts) == [
        f"words of {name}" for name in SECONDS
    ]


def test_a_manifest_without_texts_says_nothing_of_them(
    tmp_path: Path, corpus: list[Utterance]
) -> None:
    cache = cache_of(tmp_path, corpus)
    manifest = manifest_of(tmp_path, [replace(one, text="") for one in corpus])
    assert [one.id for one in join_corpus(cache.catalogue, manifest)] == list(SECONDS)


def test_an_unknown_choice_is_refused(tmp_path: Path, corpus: list[Utterance]) -> None:
    cache, manifest = cache_of(tmp_path, corpus), manifest_of(tmp_path, corpus)
    with pytest.raises(ConfigError, match="on_other_text is 'kep'; expected raise or keep. Did"):
        stream_cache(cache, corpus=manifest, on_other_text="kep")  # type: ignore[arg-type]


@pytest.mark.parametrize("views_in_manifest", [True, False])
def test_each_view_is_heard_as_its_teacher_heard_it(
    tmp_path: Path, corpus: list[Utterance], views_in_manifest: bool
) -> None:
    """Whether the manifest has a line for each view, or the recordings alone."""
    views = list(iter_views(corpus, [1.0, 0.9, 1.25]))
    cache = cache_of(tmp_path, views)
    manifest = manifest_of(tmp_path, views if views_in_manifest else corpus)
    source = CacheSource(cache, ["hidden"], corpus=manifest)
    expected = {view.id: load_audio(view.audio, RATE) for view in views}
    assert len(cache) == len(expected) == 9
    for row in range(9):
        example = source.load(row)
        assert example.audio is not None
        assert np.array_equal(example.audio, expected[example.id])


def test_a_view_of_nothing_is_missing(tmp_path: Path, corpus: list[Utterance]) -> None:
    cache = cache_of(tmp_path, [*corpus, view_of(corpus[0], 0.9), view_of(corpus[1], 1.1)])
    manifest = manifest_of(tmp_path, corpus[1:])
    with pytest.raises(ManifestError, match=r"2 of the cache's 5 .* are not in .*: a, a-sp0\.9\."):
        CacheSource(cache, [], corpus=manifest)


def test_a_line_at_another_speed_is_another_duration(
    tmp_path: Path, corpus: list[Utterance]
) -> None:
    cache = cache_of(tmp_path, corpus)
    fast = [replace(u, audio=replace(u.audio, speed=1.1)) for u in corpus]
    message = r"2 of the cache's 3 .*: b \(0\.800 s in the cache, 0\.727 s\), c "
    with pytest.raises(ManifestError, match=message):  # half a second is within the tolerance
        CacheSource(cache, [], corpus=manifest_of(tmp_path, fast))
