"""Terminals and pipes: narrow ones, without colour, without progress, and readers that go away."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from kdcache.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.parametrize("cache", ["zarr"], indirect=True)

CACHE = "CACHE"
SCREENS = {
    "inspect": ("inspect", CACHE),
    "one": ("inspect", CACHE, "--utt", "a", "--frames", "0:3"),
    "some": ("inspect", CACHE, "--where", "duration > 1", "--sort", "kl"),
    "noise": ("inspect", CACHE, "--label-noise"),
    "compare": ("compare", CACHE, CACHE),
    "status": ("status", CACHE, "--failures"),
}
"""Commands that people read."""

every_screen = pytest.mark.parametrize("command", SCREENS.values(), ids=SCREENS)


def on_a_terminal(columns: int, *arguments: str, **environment: str) -> str:
    """What a command writes to a terminal of that width, stdout and stderr."""
    main_end, command_end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "kdcache", *arguments],
        stdout=command_end,
        stderr=command_end,
        env={**os.environ, "COLUMNS": str(columns), "TERM": "xterm-256color", **environment},
    )
    os.close(command_end)
    written = b""
    try:
        while part := os.read(main_end, 4096):
            written += part
    except OSError:  # the other end is closed
        pass
    assert process.wait() == 0, written
    os.close(main_end)
    return written.decode()


def of(cache: Path, command: tuple[str, ...]) -> list[str]:
    return [str(cache) if argument == CACHE else argument for argument in command]


@pytest.mark.parametrize("screen", ["inspect", "some"])
def test_a_narrow_terminal_and_no_colour(cache: Path, screen: str) -> None:
    command = of(cache, SCREENS[screen])
    text = on_a_terminal(50, *command, NO_COLOR="1")
    lines = text.replace("\r", "").splitlines()
    assert "\x1b[" not in text
    # A path has no place at which it could be broken.
    assert max(len(line) for line in lines if str(cache)[:20] not in line) <= 50
    plain = CliRunner().invoke(main, command).stdout
    assert "".join(text.split()) == "".join(plain.split())


def test_no_colour_in_progress(cache: Path) -> None:
    text = on_a_terminal(80, *of(cache, SCREENS["compare"]), NO_COLOR="1")
    assert "Comparing" in text
    assert "target lattice" in text
    assert "\x1b[3" not in text


@every_screen
def test_nothing_but_the_answer_where_there_is_no_terminal(
    cache: Path, command: tuple[str, ...]
) -> None:
    result = CliRunner().invoke(main, of(cache, command))
    assert result.exit_code == 0, result.output
    assert result.stdout
    assert "\x1b" not in result.stdout
    noise = [line for line in result.stderr.splitlines() if not line.startswith("Labels are shown")]
    assert noise == []  # the tokenizer of this cache is none, which is said


def test_a_reader_that_goes_away(cache: Path) -> None:
    """As of ``| head -c 1``: silence, and the exit code of a shell's own commands."""
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING, *of(cache, SCREENS["inspect"])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()  # before a word is written
    process.stdout = None
    _, told = process.communicate(b"go on")
    assert (process.returncode, told) == (141, b"")


WAITING = "import sys; sys.stdin.read(); from kdcache.cli.main import main; main()"
