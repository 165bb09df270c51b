"""Small audio files, and the corpora that are made of them."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pytest
import soundfile as sf

if TYPE_CHECKING:
    from pathlib import Path

RATE = 16_000


class WriteAudio(Protocol):
    """Write a tone into a file below the test's folder."""

    def __call__(
        self, name: str, seconds: float = 1.0, rate: int = RATE, channels: int = 1
    ) -> Path: ...


@pytest.fixture
def write_audio(tmp_path: Path) -> WriteAudio:
    def write(name: str, seconds: float = 1.0, rate: int = RATE, channels: int = 1) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        time = np.arange(round(seconds * rate)) / rate
        tone = 0.25 * np.sin(2 * np.pi * 440.0 * time)
        sf.write(path, np.repeat(tone[:, None], channels, axis=1), rate)
        return path

    return write


@pytest.fixture(scope="session")
def espeak() -> None:
    """For tests that synthesise speech."""
    if importlib.util.find_spec("espeakng_loader") is None:
        pytest.skip("espeakng-loader is not installed: pip install 'kdcache[demo]'")
