"""Utterances with one another's audio keep everything but what is heard."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from kdcache.corpus import load_audio, read_manifest
from kdcache.corpus.mismatched import SAMPLE_RATE, write_mismatched
from kdcache.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path


def test_ids_texts_and_lengths_stay(tones: Path, tmp_path: Path) -> None:
    before = read_manifest(tones / "train.jsonl")
    write_mismatched(before, tmp_path / "wrong.jsonl")
    after = read_manifest(tmp_path / "wrong.jsonl")
    assert [(u.id, u.text, u.speaker) for u in after] == [(u.id, u.text, u.speaker) for u in before]
    for old, new in zip(before, after, strict=True):
        assert len(load_audio(old.audio, SAMPLE_RATE)) == len(load_audio(new.audio, SAMPLE_RATE))


def test_the_audio_is_that_of_another_text(tones: Path, tmp_path: Path) -> None:
    before = read_manifest(tones / "train.jsonl")
    after = {u.id: u for u in write_mismatched(before, tmp_path / "wrong.jsonl")}
    audio = {u.id: load_audio(u.audio, SAMPLE_RATE) for u in before}
    for one in before:
        heard = load_audio(after[one.id].audio, SAMPLE_RATE)
        spoken = [
            other.text
            for other in before
            if np.array_equal(heard[: len(audio[other.id])], audio[other.id][: len(heard)])
        ]
        assert spoken
        assert one.text not in spoken


def test_equal_corpora_give_equal_bytes(tones: Path, tmp_path: Path) -> None:
    before = read_manifest(tones / "train.jsonl")
    for name in ("a", "b"):
        write_mismatched(before, tmp_path / name / "wrong.jsonl")
    for path in (tmp_path / "a" / "wrong").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / "wrong" / path.name).read_bytes()


def test_one_utterance_has_no_other(tones: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give at least two"):
        write_mismatched(read_manifest(tones / "train.jsonl")[:1], tmp_path / "x.jsonl")
