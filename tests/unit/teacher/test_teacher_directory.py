from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from kdcache.errors import TeacherError, TokenizerError
from kdcache.teacher import load_teacher
from kdcache.teacher.directory import CTC_HEAD, open_directory, read_config

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_names_what_it_holds(saved: dict[str, Path]) -> None:
    directory = open_directory(saved["head"])
    assert directory.name == "head"
    assert directory.config["model_type"] == "parakeet_rnnt"
    assert [file.name for file in directory.weights] == ["model.safetensors"]
    assert directory.ctc_head == saved["head"] / CTC_HEAD
    assert [file.name for file in directory.settings_files] == [
        "config.json",
        "generation_config.json",
        "preprocessor_config.json",
    ]
    assert open_directory(saved["transducer"]).ctc_head is None


def test_missing_directory(tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match=r"no_such does not exist; give a local directory"):
        load_teacher(tmp_path / "no_such")


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("")
    with pytest.raises(TeacherError, match="does not exist"):
        load_teacher(tmp_path / "weights")


def test_no_config(tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match=r"not a teacher: it has no config.json"):
        load_teacher(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{not json", "cannot be read as JSON"), ("[1]", "holds a list, expected a JSON object")],
)
def test_config_that_is_no_object(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(TeacherError, match=message):
        read_config(tmp_path)


def test_no_weights(copy: Callable[[str], Path]) -> None:
    path = copy("ctc")
    (path / "model.safetensors").unlink()
    with pytest.raises(TeacherError, match=r"has no weights; model.safetensors was expected"):
        load_teacher(path)


def test_a_pickle_is_refused_unopened(copy: Callable[[str], Path]) -> None:
    path = copy("ctc")
    (path / "model.safetensors").rename(path / "pytorch_model.bin")
    with pytest.raises(TeacherError, match=r"only as a pickle .* convert it to model.safetensors"):
        load_teacher(path)


def test_no_feature_extractor(copy: Callable[[str], Path]) -> None:
    path = copy("ctc")
    (path / "preprocessor_config.json").unlink()
    with pytest.raises(TeacherError, match=r"has no preprocessor_config.json; save"):
        load_teacher(path)


def test_no_tokenizer(copy: Callable[[str], Path]) -> None:
    path = copy("ctc")
    (path / "tokenizer.model").unlink()
    with pytest.raises(TokenizerError):
        load_teacher(path)


def _index(path: Path, files: list[str]) -> None:
    weight_map = {f"weight{i}": file for i, file in enumerate(files)}
    text = json.dumps({"weight_map": weight_map})
    (path / "model.safetensors.index.json").write_text(text)


def test_sharded_weights(copy: Callable[[str], Path]) -> None:
    path = copy("ctc")
    (path / "model.safetensors").rename(path / "model-2.safetensors")
    (path / "model-1.safetensors").write_bytes(b"")
    _index(path, ["model-2.safetensors", "model-1.safetensors", "model-2.safetensors"])
    names = [file.name for file in open_directory(path).weights]
    assert names == ["model-1.safetensors", "model-2.safetensors"]


@pytest.mark.parametrize(
    ("files", "message"),
    [(["model-9.safetensors"], "lacks model-9.safetensors"), ([], "lists no weights")],
)
def test_shards_that_are_not_there(
    copy: Callable[[str], Path], files: list[str], message: str
) -> None:
    path = copy("ctc")
    (path / "model.safetensors").unlink()
    _index(path, files)
    with pytest.raises(TeacherError, match=message):
        load_teacher(path)
