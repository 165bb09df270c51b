"""Kaldi data directories, good and bad."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kdcache.corpus.importers.kaldi import read_kaldi
from kdcache.errors import ManifestError
from kdcache.types import AudioRef, Utterance

if TYPE_CHECKING:
    from pathlib import Path


def kaldi(folder: Path, **tables: str) -> Path:
    for name, text in tables.items():
        (folder / name.replace("_scp", ".scp")).write_text(text, "utf-8")
    return folder


def test_without_segments_a_recording_is_an_utterance(tmp_path: Path) -> None:
    folder = kaldi(
        tmp_path,
        wav_scp="b /audio/b.wav\na\t/audio/a.flac\n",
        text="a hello there\nb good day\n",
        utt2spk="a ann\nb ben\n",
        utt2dur="a 1.5\nb 2.25\n",
    )
    assert read_kaldi(folder) == [
        Utterance("b", AudioRef("/audio/b.wav", 0.0, 2.25), "good day", "ben"),
        Utterance("a", AudioRef("/audio/a.flac", 0.0, 1.5), "hello there", "ann"),
    ]


def test_segments(tmp_path: Path) -> None:
    folder = kaldi(
        tmp_path,
        wav_scp="rec /audio/rec.wav\n",
        segments="u1 rec 0.5 2.0\nu2 rec 2.0 -1\n",
        text="u1 one two\nu2 three\n",
    )
    first, second = read_kaldi(folder)
    assert first == Utterance("u1", AudioRef("/audio/rec.wav", 0.5, 1.5), "one two")
    assert second.audio == AudioRef("/audio/rec.wav", 2.0, None)


def test_only_wav_scp_is_needed(tmp_path: Path) -> None:
    (utterance,) = read_kaldi(kaldi(tmp_path, wav_scp="a /a.wav\n\n"))
    assert utterance == Utterance("a", AudioRef("/a.wav"))


def test_paths_are_looked_for_in_the_folder_then_in_the_current_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, work = tmp_path / "data", tmp_path / "work"
    data.mkdir()
    work.mkdir()
    (data / "in_data.wav").touch()
    (work / "in_work.wav").touch()
    monkeypatch.chdir(work)
    kaldi(data, wav_scp="a in_data.wav\nb in_work.wav\nc nowhere.wav\nd with blank.wav\n")
    assert [u.audio.path for u in read_kaldi(data)] == [
        str(data / "in_data.wav"),
        str(work / "in_work.wav"),
        str(data / "nowhere.wav"),
        str(data / "with blank.wav"),
    ]


@pytest.mark.parametrize("line", ["sph2pipe -f wav /x.sph |", "touch executed |", "| cat"])
def test_commands_are_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    kaldi(tmp_path, wav_scp=f"good /g.wav\na {line}\n")
    with pytest.raises(ManifestError, match="recording 'a' is a command .* executes none"):
        read_kaldi(tmp_path)
    assert not (tmp_path / "executed").exists()


def test_archives_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="recording 'a' is in an archive"):
        read_kaldi(kaldi(tmp_path, wav_scp="a /data/raw.ark:1042\n"))


def test_recording_without_a_path(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="recording 'a' has no path"):
        read_kaldi(kaldi(tmp_path, wav_scp="a\n"))


def test_segment_of_an_unknown_recording(tmp_path: Path) -> None:
    kaldi(tmp_path, wav_scp="rec /r.wav\n", segments="u1 other 0 1\n")
    with pytest.raises(ManifestError, match="'u1': recording 'other' is not in wav.scp"):
        read_kaldi(tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("u1 rec 0", "expected recording, start and end"),
        ("u1 rec zero 1", "got 'zero', expected seconds"),
        ("u1 rec 0 inf", "got 'inf', expected seconds"),
    ],
)
def test_bad_segments(tmp_path: Path, line: str, message: str) -> None:
    kaldi(tmp_path, wav_scp="rec /r.wav\n", segments=line + "\n")
    with pytest.raises(ManifestError, match=message):
        read_kaldi(tmp_path)


def test_bad_duration(tmp_path: Path) -> None:
    kaldi(tmp_path, wav_scp="a /r.wav\n", utt2dur="a long\n")
    with pytest.raises(ManifestError, match="utt2dur, 'a': got 'long', expected seconds"):
        read_kaldi(tmp_path)


@pytest.mark.parametrize("table", ["wav_scp", "text", "utt2spk"])
def test_repeated_keys_are_refused_with_their_line(tmp_path: Path, table: str) -> None:
    tables = {"wav_scp": "a /a.wav\n", table: "a one\nb two\na three\n"}
    with pytest.raises(ManifestError, match="line 3: 'a' stands there a second time"):
        read_kaldi(kaldi(tmp_path, **tables))


def test_missing_wav_scp(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"wav\.scp cannot be read"):
        read_kaldi(tmp_path)


def test_binary_table(tmp_path: Path) -> None:
    (tmp_path / "wav.scp").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ManifestError, match="is not UTF-8 text"):
        read_kaldi(tmp_path)
