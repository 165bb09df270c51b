"""Recognising formats, and what all imports share."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import pytest

from kdcache.corpus import FORMATS, check_corpus, import_corpus
from kdcache.corpus.durations import with_durations
from kdcache.corpus.importers import detect_format
from kdcache.errors import ManifestError
from kdcache.types import AudioRef, Utterance

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.corpus.conftest import WriteAudio


def test_formats_of_files(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('\n{"audio_filepath": "a.wav"}\n')
    assert detect_format(path) == "nemo"
    path.write_text('{"id": "c", "type": "MonoCut", "supervisions": []}\n')
    assert detect_format(path) == "lhotse"
    path.write_bytes(gzip.compress(b'{"id": "c", "type": "MixedCut", "tracks": []}\n'))
    assert detect_format(path) == "lhotse"


def test_formats_of_folders(tmp_path: Path) -> None:
    for name, file in [
        ("kaldi", "wav.scp"),
        ("datasets", "dataset_info.json"),
        ("datasets", "dataset_dict.json"),
        ("librispeech", "1/2/1-2.trans.txt"),
    ]:
        path = tmp_path / file.replace("/", "_") / file
        path.parent.mkdir(parents=True)
        path.touch()
        assert detect_format(tmp_path / file.replace("/", "_")) == name


@pytest.mark.parametrize("content", [b"", b"hello\n", b"[1]\n", b'{"id": 1}\n', b"\xff\x00"])
def test_files_of_no_format(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m").write_bytes(content)
    with pytest.raises(ManifestError, match="no manifest that is known: its first line"):
        import_corpus(tmp_path / "m")


def test_folder_of_no_format(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"there is no wav\.scp \(Kaldi\)"):
        import_corpus(tmp_path)


def test_unknown_format_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"Got format 'kaldy'.*Did you mean 'kaldi'\?"):
        import_corpus(tmp_path, "kaldy")
    assert len(FORMATS) == 5


def test_missing_source(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="does not exist"):
        import_corpus(tmp_path / "none")


def test_corpus_without_utterances(tmp_path: Path) -> None:
    (tmp_path / "wav.scp").touch()
    with pytest.raises(ManifestError, match="holds no utterance, read as format 'kaldi'"):
        import_corpus(tmp_path)


def test_durations_are_what_is_left_of_the_file(tmp_path: Path, write_audio: WriteAudio) -> None:
    path, gone = str(write_audio("a.wav", 2.0)), str(tmp_path / "gone.wav")
    utterances = [
        Utterance("whole", AudioRef(path)),
        Utterance("rest", AudioRef(path, 0.5)),
        Utterance("told", AudioRef(path, 0.5, 0.25)),
        Utterance("behind", AudioRef(path, 3.0)),
        Utterance("gone", AudioRef(gone)),
    ]
    filled = with_durations(utterances)
    assert [u.id for u in filled] == [u.id for u in utterances]
    assert [u.audio.duration for u in filled] == [2.0, 1.5, 0.25, None, None]


def test_nemo_import_fills_durations_and_keeps_order(
    tmp_path: Path, write_audio: WriteAudio
) -> None:
    names = ["b", "a", "c"]
    for name in names:
        write_audio(f"{name}.wav", 0.5)
    lines = [json.dumps({"audio_filepath": f"{name}.wav"}) for name in names]
    (tmp_path / "m.jsonl").write_text("\n".join(lines))
    utterances = import_corpus(tmp_path / "m.jsonl")
    assert [(u.id, u.duration) for u in utterances] == [(name, 0.5) for name in names]


def test_human_speech_is_clean(shared_data: Path) -> None:
    utterances = import_corpus(shared_data / "natural" / "natural.jsonl")
    result = check_corpus(utterances)
    assert result.problems == ()
    assert (result.utterances, result.files) == (792, 31)


def test_human_speech_in_lossy_files_is_clean(shared_data: Path) -> None:
    manifest = shared_data / "librispeech-opus" / "manifest.jsonl"
    if not manifest.exists():
        pytest.skip(f"no {manifest}")
    assert check_corpus(import_corpus(manifest)[:200]).problems == ()
