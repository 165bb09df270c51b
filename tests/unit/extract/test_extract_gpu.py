"""How busy GPUs are, with a program in the place of NVIDIA's."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

import pytest

from kdcache.extract.gpu import GpuWatch, find_gpus, parse_utilisation

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "share"), [("93\n", 0.93), ("7\n41\n", 0.41), ("[N/A]\n", None), ("", None)]
)
def test_the_busiest_counts(text: str, share: float | None) -> None:
    assert parse_utilisation(text) == share


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An ``nvidia-smi`` to be written, and no pynvml."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return tmp_path / "nvidia-smi"


def write(program: Path, script: str) -> None:
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_the_program_is_asked(smi: Path) -> None:
    write(smi, "echo 17; echo 80")
    ask = find_gpus()
    assert ask is not None
    assert ask() == 0.8


def test_a_program_that_fails_says_nothing(smi: Path) -> None:
    write(smi, "echo 'NVIDIA-SMI has failed'; exit 9")
    ask = find_gpus()
    assert ask is not None
    assert ask() is None


def test_without_gpus_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert find_gpus() is None
    with GpuWatch() as gpu:
        assert gpu() is None


def wait_for(met: object) -> None:
    deadline = time.monotonic() + 30
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_the_watch_asks_again_and_again_and_stops() -> None:
    asked: list[float] = []

    def ask() -> float:
        asked.append(0.1 * (len(asked) + 1))
        return asked[-1]

    with GpuWatch(ask, every=0.001) as gpu:
        wait_for(lambda: len(asked) >= 3)
        assert gpu() in asked
    time.sleep(0.05)
    count = len(asked)
    time.sleep(0.05)
    assert len(asked) == count


def test_the_watch_gives_up_where_there_is_no_answer() -> None:
    asked: list[None] = []
    with GpuWatch(lambda: asked.append(None), every=0.0) as gpu:
        wait_for(lambda: asked)
        time.sleep(0.02)
        assert gpu() is None
    assert len(asked) == 1
