"""Saved tiny teachers, made once, and copies of them to be damaged."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

from kdcache.teacher import load_teacher
from kdcache.testing.small_teachers import (
    save_small_ctc,
    save_small_transducer,
    save_small_wav2vec2,
    save_small_whisper,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TEXTS = ["one two three", "four five six", "seven eight nine oh"]


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return TEXTS


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("teachers")
    return {
        "transducer": save_small_transducer(root / "transducer", TEXTS),
        "head": save_small_transducer(root / "head", TEXTS, ctc_head=True),
        "ctc": save_small_ctc(root / "ctc", TEXTS),
        "wav2vec2": save_small_wav2vec2(root / "wav2vec2", TEXTS),
        "group": save_small_wav2vec2(root / "group", TEXTS, feat_extract_norm="group"),
        "whisper": save_small_whisper(root / "whisper", TEXTS, seconds=3),
        "multilingual": save_small_whisper(root / "many", TEXTS, seconds=3, languages=3),
    }


@pytest.fixture(scope="session")
def loaded(saved: dict[str, Path]) -> Callable[[str], Any]:
    """Teachers by name, each loaded once."""
    teachers: dict[str, Any] = {}

    def get(name: str) -> Any:
        if name not in teachers:
            teachers[name] = load_teacher(saved[name])
        return teachers[name]

    return get


@pytest.fixture
def copy(saved: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a saved teacher that a test may change."""

    def make(name: str) -> Path:
        return shutil.copytree(saved[name], tmp_path / name)

    return make
