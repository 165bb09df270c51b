"""Students by kind: what is read is what its config.json says, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kdcache.corpus import load_tokenizer
from kdcache.errors import InputError
from kdcache.student import Student, StudentSettings, build_student, load_student, save_student
from kdcache.student.registry import KINDS, MODEL_TYPES, student_class

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_there_under_its_own_name(kind: str) -> None:
    found = student_class(kind)
    assert issubclass(found, Student)
    assert found.kind == kind


def test_what_is_written_can_be_read() -> None:
    assert set(MODEL_TYPES.values()) == set(KINDS)


@pytest.mark.parametrize("config", [None, "{", "[]", "{}", '{"model_type": "bert"}'])
def test_another_directory_is_refused(tmp_path: Path, config: str | None) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(InputError, match="is not a trained student"):
        load_student(tmp_path)


@pytest.mark.parametrize("what", ["weights gone", "weights cut short", "extractor gone"])
def test_a_student_that_is_not_whole_is_one_sentence(
    tmp_path: Path, tones: Path, what: str
) -> None:
    sizes = StudentSettings(hidden=8, layers=1, joint=8, heads=2, subsampling_channels=2)
    student = build_student(sizes, load_tokenizer(tones / "tokenizer"))
    folder = save_student(student, tmp_path / "student")
    weights = folder / "model.safetensors"
    if what == "weights cut short":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif what == "weights gone":
        weights.unlink()
    else:
        (folder / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match=r"student in .* cannot be read .*copy the directory"):
        load_student(folder)
