"""Students by kind: what is read is what its config.json says, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kdcache.errors import InputError
from kdcache.student import Student, load_student
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
