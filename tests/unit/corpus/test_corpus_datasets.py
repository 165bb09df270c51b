"""Data sets saved by Hugging Face's datasets."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from kdcache.corpus import import_corpus, load_audio
from kdcache.corpus.importers.hf_datasets import read_datasets
from kdcache.errors import ManifestError, MissingDependencyError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.corpus.conftest import WriteAudio

datasets = pytest.importorskip("datasets", reason="datasets is not installed")


def save(folder: Path, columns: dict[str, list[Any]], audio: str | None = "audio") -> Path:
    table = datasets.Dataset.from_dict(columns)
    if audio is not None:
        table = table.cast_column(audio, datasets.Audio(decode=False))
    table.save_to_disk(str(folder))
    return folder


def embedded(path: Path, name: str | None = None) -> dict[str, Any]:
    return {"path": name, "bytes": path.read_bytes()}


@pytest.fixture
def sounds(write_audio: WriteAudio) -> tuple[Path, Path]:
    return write_audio("x/one.flac", 0.5), write_audio("x/two.wav", 0.25)


def test_embedded_audio_is_written_out_as_it_is(tmp_path: Path, sounds: tuple[Path, Path]) -> None:
    rows = [embedded(sounds[0]), embedded(sounds[1])]
    columns = {"audio": rows, "id": ["a/b", "c"], "text": ["hello", "day"], "speaker_id": [3, 4]}
    source = save(tmp_path / "data", columns)
    utterances = import_corpus(source, audio_dir=tmp_path / "out")
    assert [(u.id, u.text, u.speaker, u.duration) for u in utterances] == [
        ("a/b", "hello", "3", 0.5),
        ("c", "day", "4", 0.25),
    ]
    names = ["00000000-a_b.flac", "00000001-c.wav"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == names
    assert (tmp_path / "out" / names[0]).read_bytes() == sounds[0].read_bytes()
    assert len(load_audio(utterances[1].audio, 16_000)) == 4_000


def test_paths_stay_where_they_are(tmp_path: Path, sounds: tuple[Path, Path]) -> None:
    rows = [{"path": str(p), "bytes": None} for p in sounds]
    source = save(tmp_path / "data", {"audio": rows, "sentence": ["a", "b"]}, audio=None)
    utterances = read_datasets(source, None)
    assert [u.audio.path for u in utterances] == [str(p) for p in sounds]
    assert [u.id for u in utterances] == ["one", "two"]
    assert [u.text for u in utterances] == ["a", "b"]


def test_names_that_repeat_are_numbered(tmp_path: Path, sounds: tuple[Path, Path]) -> None:
    rows = [embedded(sounds[0], "x.flac"), embedded(sounds[0], "x.flac"), embedded(sounds[0])]
    source = save(tmp_path / "data", {"audio": rows})
    ids = [u.id for u in read_datasets(source, tmp_path / "out")]
    assert ids == ["x", "x-00000001", "utt-00000002"]


def test_audio_as_a_column_of_paths(tmp_path: Path, sounds: tuple[Path, Path]) -> None:
    source = save(tmp_path / "data", {"audio": [str(sounds[0])], "text": ["a"]}, audio=None)
    assert read_datasets(source, None)[0].audio.path == str(sounds[0])


def test_missing_text_is_empty(tmp_path: Path, sounds: tuple[Path, Path]) -> None:
    rows = [{"path": str(sounds[0]), "bytes": None}] * 2
    columns = {"audio": rows, "text": ["a", None], "id": ["x", "y"]}
    source = save(tmp_path / "data", columns, audio=None)
    assert [u.text for u in read_datasets(source, None)] == ["a", ""]


def test_embedded_audio_needs_a_folder(tmp_path: Path, sounds: tuple[Path, Path]) -> None:
    source = save(tmp_path / "data", {"audio": [embedded(sounds[0])]})
    with pytest.raises(ManifestError, match="embeds its audio; say where to write it"):
        read_datasets(source, None)


def test_no_audio_column(tmp_path: Path) -> None:
    source = save(tmp_path / "data", {"text": ["a"], "label": [1]}, audio=None)
    with pytest.raises(ManifestError, match="has 0 audio columns.*its columns are: text, label"):
        read_datasets(source, None)


def test_row_without_audio(tmp_path: Path, sounds: tuple[Path, Path]) -> None:
    rows = [embedded(sounds[0]), {"path": None, "bytes": None}]
    source = save(tmp_path / "data", {"audio": rows}, audio=None)
    with pytest.raises(ManifestError, match="row 1: there is neither a path nor bytes"):
        read_datasets(source, tmp_path / "out")


def test_several_splits(tmp_path: Path, sounds: tuple[Path, Path]) -> None:
    table = datasets.Dataset.from_dict({"audio": [str(sounds[0])]})
    datasets.DatasetDict(train=table, test=table).save_to_disk(str(tmp_path / "data"))
    with pytest.raises(ManifestError, match=r"splits train, test; give one .*data/train"):
        import_corpus(tmp_path / "data")
    assert len(import_corpus(tmp_path / "data" / "train")) == 1


def test_folder_that_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="is no data set that can be read"):
        read_datasets(tmp_path, None)


def test_without_datasets_its_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'kdcache\[datasets\]'"):
        read_datasets(tmp_path, None)
