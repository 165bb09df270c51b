"""Utterances as columns: the same utterances, in less memory."""

from __future__ import annotations

import tracemalloc
from itertools import islice
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdcache.corpus.manifest import read_manifest, write_manifest
from kdcache.corpus.table import ROW_BYTES, UtteranceTable, among, read_table
from kdcache.errors import ManifestError
from kdcache.types import AudioRef, Utterance

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
seconds = st.floats(0, 1e5, allow_nan=False)
utterances = st.builds(
    Utterance,
    texts,
    st.builds(AudioRef, texts, seconds, st.none() | seconds, st.sampled_from([0.9, 1.0, 1.1])),
    texts,
    st.none() | texts,
)


def many(count: int) -> Iterator[Utterance]:
    for n in range(count):
        audio = AudioRef(f"/corpora/train/{n:09d}.flac", 0.0, 5.0 + n % 20)
        yield Utterance(f"utterance-{n:09d}", audio, f"this is number {n}", f"s{n % 100}")


@given(st.lists(utterances, max_size=20), st.integers(0, 20), st.integers(0, 20))
def test_what_goes_in_comes_out(corpus: list[Utterance], start: int, stop: int) -> None:
    table = UtteranceTable.of(corpus)
    assert list(table) == corpus
    assert len(table) == len(corpus)
    assert table[start:stop] == tuple(corpus[start:stop])
    assert [table[row] for row in range(-len(corpus), len(corpus))] == corpus * 2
    assert table.ids.to_pylist() == [one.id for one in corpus]
    assert table.durations.tolist() == pytest.approx([one.duration for one in corpus])


def test_a_table_is_a_table_already() -> None:
    table = UtteranceTable.of(many(3))
    assert UtteranceTable.of(table) is table


def test_a_row_beyond_the_end() -> None:
    with pytest.raises(IndexError):
        UtteranceTable.of(many(3))[3]


@given(st.lists(st.sampled_from("abcdefg"), max_size=12))
def test_ids_that_are_there_more_than_once(names: list[str]) -> None:
    table = UtteranceTable.of(Utterance(name, AudioRef(name)) for name in names)
    expected = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    assert table.repeated_ids() == expected


def test_which_names_are_known() -> None:
    ids = UtteranceTable.of(many(3)).ids
    known = frozenset({"utterance-000000001", "another"})
    assert among(ids, known).tolist() == [False, True, False]
    assert among(ids, ()).tolist() == [False] * 3
    assert among(ids, ids).all()


class TestManifests:
    def test_several_are_one_corpus(self, tmp_path: Path) -> None:
        corpus = list(many(30))
        write_manifest(tmp_path / "a.jsonl", corpus[:20])
        write_manifest(tmp_path / "b.jsonl", corpus[20:])
        table = read_table([tmp_path / "a.jsonl", tmp_path / "b.jsonl"])
        assert list(table) == corpus
        assert list(table)[:20] == read_manifest(tmp_path / "a.jsonl")

    def test_an_id_in_two_of_them_is_named(self, tmp_path: Path) -> None:
        write_manifest(tmp_path / "a.jsonl", many(3))
        write_manifest(tmp_path / "b.jsonl", islice(many(5), 2, None))
        with pytest.raises(ManifestError, match=r"a\.jsonl, .*b\.jsonl.*'utterance-000000002'"):
            read_table([tmp_path / "a.jsonl", tmp_path / "b.jsonl"])

    def test_an_empty_one_is_refused(self, tmp_path: Path) -> None:
        write_manifest(tmp_path / "a.jsonl", many(3))
        (tmp_path / "b.jsonl").touch()
        with pytest.raises(ManifestError, match=r"b\.jsonl holds no utterance"):
            read_table([tmp_path / "a.jsonl", tmp_path / "b.jsonl"])


def characters(corpus: Iterator[Utterance]) -> int:
    rows = ((one.id, one.audio.path, one.text, one.speaker or "") for one in corpus)
    return sum(len(text.encode()) for row in rows for text in row)


def test_a_row_takes_its_characters_and_little_else() -> None:
    count = 20_000
    table = UtteranceTable.of(many(count))
    assert table.nbytes <= characters(many(count)) + ROW_BYTES * count


def test_objects_do_not_stay() -> None:
    table = UtteranceTable.of(many(20_000))
    tracemalloc.start()
    try:
        for _ in table:
            pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10e6, "more than some thousand objects at once"
