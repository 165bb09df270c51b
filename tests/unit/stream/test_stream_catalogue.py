"""A stream takes ids and texts from the catalogue's columns, and holds no list of them."""

from __future__ import annotations

import gc
import tracemalloc
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcache.corpus import write_manifest
from kdcache.errors import ManifestError
from kdcache.store import compact, create_or_open, open_cache
from kdcache.stream import join
from kdcache.stream import source as sources
from kdcache.stream.source import CacheSource
from kdcache.testing.samples import (
    TOKENIZER_FILES,
    sample_packed,
    sample_spec,
    sample_utterance,
)
from kdcache.types import AudioRef, fingerprint_of

if TYPE_CHECKING:
    from pathlib import Path

    from kdcache.store import Cache, CacheSpec

MANY = 300_000
IDS = ["a", 'b "quoted" \\', "c\n", "d ütterance 発話", "e", "f", "g"]


@dataclass(frozen=True)
class Catalogued:
    """As much of a cache as a source looks at before it reads a row."""

    spec: CacheSpec
    catalogue: pa.Table

    def catalogue_columns(self, names: list[str]) -> pa.Table:
        return self.catalogue.select(names)


def many_rows() -> Any:
    ids = pa.array([f"corpus/speaker-{row // 1000:06d}/utt-{row:010d}" for row in range(MANY)])
    columns = {"id": ids, "text": ids, "tokens": pa.array([[1]] * MANY)}
    durations = pa.array([1.5] * MANY, pa.float64())
    return Catalogued(sample_spec(), pa.table({**columns, "duration": durations}))


def small_cache(path: Path) -> Cache:
    writer = create_or_open(path, sample_spec(), "zarr", TOKENIZER_FILES)
    for number, part in enumerate((IDS[:4], IDS[4:])):
        packed = [sample_packed(writer.spec, name) for name in part]
        writer.commit(f"u{number}", packed, [], "x")
    return open_cache(path)


def test_no_python_object_is_made_for_every_row() -> None:
    cache = many_rows()
    gc.collect()
    tracemalloc.start()
    try:
        source = CacheSource(cache, [])
        made, _ = tracemalloc.get_traced_memory()
        assert len(source.snapshot) == 64
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    strings = MANY * 80
    assert made < 16 * MANY, "durations take 8 bytes a row, ids and texts nothing"
    assert kept < 16 * MANY
    assert peak < strings, "the digest goes over the ids block by block"


@settings(deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8"))), st.integers(1, 5), st.integers(1, 4))
def test_the_digest_of_blocks_is_that_of_the_list(ids: list[str], block: int, pieces: int) -> None:
    chunks = [pa.array(ids[i::pieces], pa.string()) for i in range(pieces)]
    column = pa.chunked_array(chunks)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "_BLOCK", block)
        found = sources._digest_of_ids("0" * 64, column)
    assert found == fingerprint_of(["0" * 64, column.to_pylist()])


@pytest.mark.parametrize("compacted", [False, True])
def test_examples_and_saved_positions_are_as_the_catalogue_says(
    tmp_path: Path, compacted: bool
) -> None:
    cache = small_cache(tmp_path)
    if compacted:
        compact(tmp_path)
        cache = open_cache(tmp_path)
    source = CacheSource(cache, ["hidden"])
    assert source.snapshot == fingerprint_of([cache.spec.spec_hash, IDS])
    for row, name in enumerate(IDS):
        example = source.load(row)
        assert (example.id, example.text) == (name, f"text of {name}")
        assert example.tokens.tolist() == cache.catalogue["tokens"][row].as_py()


def test_what_a_manifest_lacks_is_named_whichever_block_it_is_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(join, "_BLOCK", 2)
    cache, manifest = small_cache(tmp_path / "cache"), tmp_path / "corpus.jsonl"
    write_manifest(manifest, [sample_utterance(name) for name in ("e", "a")])
    with pytest.raises(ManifestError, match=r"(?s)5 of the cache's 7 .*: b .*, f, g\."):
        CacheSource(cache, [], corpus=manifest)
    lasting = cache.catalogue["duration"].to_pylist()
    whole = [
        replace(sample_utterance(name), audio=AudioRef(f"/corpus/{name}.wav", duration=seconds))
        for name, seconds in zip(IDS, lasting, strict=True)
    ]
    write_manifest(manifest, reversed(whole))
    joined = CacheSource(cache, [], corpus=manifest)._audio
    assert joined is not None
    assert [utterance.id for utterance in joined] == IDS
