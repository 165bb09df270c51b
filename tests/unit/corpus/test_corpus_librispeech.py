"""LibriSpeech trees."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kdcache.corpus.importers import import_corpus
from kdcache.corpus.importers.librispeech import read_librispeech
from kdcache.errors import ManifestError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.corpus.conftest import WriteAudio


@pytest.fixture
def tree(tmp_path: Path, write_audio: WriteAudio) -> Path:
    for name, suffix in [("84/121123/84-121123-0000", "flac"), ("84/121123/84-121123-0001", "wav"),
                         ("61/7/61-7-0000", "flac")]:  # fmt: skip
        write_audio(f"ls/{name}.{suffix}", 0.5)
    (tmp_path / "ls/84/121123/84-121123.trans.txt").write_text(
        "84-121123-0000 GO DO YOU HEAR\n84-121123-0001 BUT IN LESS THAN\n"
    )
    (tmp_path / "ls/61/7/61-7.trans.txt").write_text("61-7-0000 HE BEGAN\n\n61-7-0001\n")
    return tmp_path / "ls"


def test_tree(tree: Path) -> None:
    utterances = read_librispeech(tree)
    assert [(u.id, u.text, u.speaker) for u in utterances] == [
        ("61-7-0000", "HE BEGAN", "61"),
        ("61-7-0001", "", "61"),
        ("84-121123-0000", "GO DO YOU HEAR", "84"),
        ("84-121123-0001", "BUT IN LESS THAN", "84"),
    ]
    assert utterances[3].audio.path == str(tree / "84/121123/84-121123-0001.wav")


def test_missing_audio_keeps_its_usual_name(tree: Path) -> None:
    assert read_librispeech(tree)[1].audio.path == str(tree / "61/7/61-7-0001.flac")


def test_durations_come_from_the_headers(tree: Path) -> None:
    durations = [u.audio.duration for u in import_corpus(tree)]
    assert durations == [0.5, None, 0.5, 0.5]


def test_binary_transcript(tree: Path) -> None:
    (tree / "61/7/61-7.trans.txt").write_bytes(b"\xff\xff")
    with pytest.raises(ManifestError, match=r"61-7\.trans\.txt is not UTF-8 text"):
        read_librispeech(tree)
