"""Manifests with unusable lines: what is kept, and what is told."""

from __future__ import annotations

import codecs
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdcache.corpus.manifest import read_manifest
from kdcache.corpus.tolerant import read_tolerantly
from kdcache.errors import ManifestError

if TYPE_CHECKING:
    from pathlib import Path

A = b'{"id": "a", "audio_filepath": "a.wav", "text": "one"}'
B = b'{"id": "b", "audio_filepath": "b.wav", "text": "two"}'
OTHER_A = b'{"id": "a", "audio_filepath": "b.wav", "text": "two"}'


def read(tmp_path: Path, *contents: bytes) -> tuple[list[str], list[str]]:
    """Ids, and the files and lines that are bad."""
    paths = [tmp_path / f"{number}.jsonl" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    utterances, bad = read_tolerantly(paths)
    return [u.id for u in utterances], [line.where.rpartition("/")[2] for line in bad]


def test_a_sound_manifest_reads_as_ever(tmp_path: Path) -> None:
    assert read(tmp_path, A + b"\n\n" + B + b"\r\n") == (["a", "b"], [])
    assert read_tolerantly([tmp_path / "0.jsonl"])[0] == read_manifest(tmp_path / "0.jsonl")


def test_a_mark_before_the_first_line_costs_nothing(tmp_path: Path) -> None:
    marked = codecs.BOM_UTF8 + A + b"\n" + B
    assert read(tmp_path, marked, codecs.BOM_UTF8 + B) == (["a", "b"], [])
    assert [u.id for u in read_manifest(tmp_path / "0.jsonl")] == ["a", "b"]
    assert read(tmp_path, A + b"\n" + codecs.BOM_UTF8 + B)[1] == ["0.jsonl, line 2"]


def test_bad_lines_are_passed_over_by_number(tmp_path: Path) -> None:
    ids, bad = read(tmp_path, b"{\n" + A + b"\n\xff\n\n" + B, b"[]\n" + B.replace(b'"b"', b'"c"'))
    assert ids == ["a", "b", "c"]
    assert bad == ["0.jsonl, line 1", "0.jsonl, line 3", "1.jsonl, line 1"]


def test_of_a_repeated_id_the_first_counts(tmp_path: Path) -> None:
    ids, bad = read(tmp_path, A + b"\n" + OTHER_A, OTHER_A)
    assert ids == ["a"]
    assert bad == ["0.jsonl, line 2", "1.jsonl, line 1"]
    (utterance,), lines = read_tolerantly([tmp_path / "0.jsonl", tmp_path / "1.jsonl"])
    assert utterance.text == "one"
    assert "'a' stands further up" in lines[0].why


def test_the_same_once_more_is_no_fault(tmp_path: Path) -> None:
    assert read(tmp_path, A + b"\n" + A + b"\n" + B, A) == (["a", "b"], [])


def test_ids_that_are_derived_are_those_of_the_strict_reader(tmp_path: Path) -> None:
    rows = [{"audio_filepath": f"{folder}/a.wav", "offset": o} for folder in "xy" for o in (0, 1)]
    text = "\n".join(json.dumps(row) for row in rows).encode()
    assert read(tmp_path, text)[0] == [u.id for u in read_manifest(tmp_path / "0.jsonl")]
    assert read(tmp_path, text + b"\nnothing")[0] == [u.id for u in read_tolerantly(
        [tmp_path / "0.jsonl"])[0]]  # fmt: skip


@pytest.mark.parametrize("content", [b"", b"\n\n", b"no JSON\n\xff"])
def test_nothing_usable_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ManifestError, match="holds no utterance"):
        read(tmp_path, content)


def test_the_first_fault_is_told_where_nothing_is_usable(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"line 2 is not JSON"):
        read(tmp_path, b"\nno JSON")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="cannot be read"):
        read_tolerantly([tmp_path / "none.jsonl"])


@given(st.lists(st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"")), max_size=8))
def test_no_bytes_cost_the_good_ones(tmp_path_factory: pytest.TempPathFactory, junk) -> None:
    path = tmp_path_factory.mktemp("junk") / "m.jsonl"
    path.write_bytes(b"\n".join([A, *junk, B]))
    utterances, bad = read_tolerantly([path])
    assert [u.id for u in utterances] == ["a", "b"]
    assert len(bad) == sum(bool(line.strip()) for line in junk)
