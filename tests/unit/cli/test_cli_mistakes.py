"""What users get wrong, of every command that looks into a cache: one sentence, exit code 2."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from kdcache.cli.main import main
from kdcache.store.seal import seal, unseal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from click.testing import Result

pytestmark = pytest.mark.parametrize("cache", ["zarr"], indirect=True)
"""A layout is enough: mistakes are found out before a shard is read."""

CACHE, OTHER, OUT = "CACHE", "OTHER", "OUT"
"""What a test puts in their place."""

READERS = {
    "status": ("status", CACHE),
    "inspect": ("inspect", CACHE),
    "inspect one": ("inspect", CACHE, "--utt", "a"),
    "plot": ("plot", CACHE, "--utt", "a", "-o", f"{OUT}.png"),
    "report": ("report", CACHE, "-o", OUT, "--top", "0"),
    "ls": ("ls", CACHE),
    "cat": ("cat", CACHE, "a"),
    "export": ("export", CACHE, OUT),
    "compare A": ("compare", CACHE, OTHER),
    "compare B": ("compare", OTHER, CACHE),
    "verify": ("verify", CACHE),
    "convert": ("convert", CACHE, OUT),
    "gc": ("gc", CACHE),
    "compact": ("compact", CACHE),
}
ONE = {
    "inspect": ("inspect", CACHE, "--utt"),
    "plot": ("plot", CACHE, "-o", f"{OUT}.png", "--utt"),
    "cat": ("cat", CACHE),
}
"""Commands about one utterance, up to its id."""

CHOOSERS = {
    "inspect": ("inspect", CACHE, "--where"),
    "label noise": ("inspect", CACHE, "--label-noise", "--where"),
    "ls": ("ls", CACHE, "--where"),
    "export": ("export", CACHE, OUT, "--where"),
}
"""Commands that take a condition, up to it."""

WRITERS = {
    "plot": ("plot", CACHE, "--utt", "a", "-o"),
    "report": ("report", CACHE, "-o"),
    "cat json": ("cat", CACHE, "a", "--out"),
    "cat npz": ("cat", CACHE, "a", "--format", "npz", "--out"),
    "cat arrow": ("cat", CACHE, "a", "--format", "arrow", "--out"),
    "export": ("export", CACHE),
}
"""Commands that write a file, up to its name."""


def run(arguments: Sequence[str], cache: Path, other: Path, *more: str) -> Result:
    places = {CACHE: str(cache), OTHER: str(other)}
    out = str(other.parent / "out")
    given = [places.get(argument, argument).replace(OUT, out) for argument in arguments]
    return CliRunner().invoke(main, [*given, *more])


def sentence(result: Result) -> str:
    """The one sentence on stderr; nothing is on stdout."""
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("Error: ")
    return line


def every(commands: dict[str, tuple[str, ...]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("command", commands.values(), ids=commands)


@every(READERS)
def test_not_a_cache(command: tuple[str, ...], cache: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    for name in ("folder", "file", "nothing"):
        told = sentence(run(command, tmp_path / name, cache))
        assert f"{tmp_path / name} holds no cache: expected a directory with" in told
    assert not list(tmp_path.glob("out*"))


@every(READERS)
def test_a_cache_of_a_newer_format(command: tuple[str, ...], cache: Path, tmp_path: Path) -> None:
    path = cache / "kdcache.json"
    told = path.read_bytes()
    path.write_bytes(seal({**unseal(told, path.name), "format_version": 99}))
    older = tmp_path / "older"
    older.mkdir()
    (older / path.name).write_bytes(told)
    assert "the cache has format 99" in sentence(run(command, cache, older))


@every(ONE)
@pytest.mark.parametrize(
    ("key", "said"),
    [("aa", "Nearest: "), ("", "No utterance ''"), ("nowhere near", "no utterance 'nowhere near'")],
)
def test_an_unknown_utterance(
    command: tuple[str, ...], cache: Path, tmp_path: Path, key: str, said: str
) -> None:
    told = sentence(run(command, cache, tmp_path / "x", key))
    assert said.lower() in told.lower()
    if key == "aa":
        assert told.partition("Nearest: ")[2].strip("'.\n").startswith("a")


@every(CHOOSERS)
@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("duration >", "is no condition"),
        ("durations > 3", "Did you mean 'duration'?"),
        ("__import__('os').system('true')", "does not understand"),
        ("duration", "expected a condition, got a number"),
        ("speaker > 3", "expected a text, got a number"),
        ("kl > 1e999999 or kl.__class__ is None", "no field 'kl.__class__'"),
    ],
)
def test_a_bad_condition(
    command: tuple[str, ...], cache: Path, tmp_path: Path, condition: str, said: str
) -> None:
    assert said in sentence(run(command, cache, tmp_path / "x", condition))
    assert not (tmp_path / "out").exists()


@every(WRITERS)
@pytest.mark.parametrize("place", ["missing/out.png", "folder.png", "file/out.png"])
def test_an_output_that_cannot_be_written(
    command: tuple[str, ...],
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").write_text("")
    for work in ("inspect.plot.draw", "inspect.arrays.Arrays.read"):
        monkeypatch.setattr(f"kdcache.{work}", None)  # found out before any work is done
    told = sentence(run(command, cache, tmp_path / "x", str(tmp_path / place)))
    assert told.startswith(f"Error: cannot write {tmp_path / place}: ")
    assert not list(tmp_path.glob("**/.*"))


@every(WRITERS)
def test_the_folder_itself_is_no_output(
    command: tuple[str, ...], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = sentence(run(command, cache, tmp_path / "x", "."))
    assert "a .png or .svg file" in told or told.startswith("Error: cannot write .: ")


@every({name: WRITERS[name] for name in ("report", "cat npz", "export")})
def test_a_device_is_written_to_and_not_replaced(
    command: tuple[str, ...], cache: Path, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    # A writer waits where a pipe is full, and a page is larger than a pipe.
    with ThreadPoolExecutor(1) as reading:
        came = reading.submit(pipe.read_bytes)
        more = ("--top", "0") if "report" in command else ()
        try:
            result = run(command, cache, tmp_path / "x", str(pipe), *more)
        finally:
            os.close(os.open(pipe, os.O_RDWR))  # frees the reader if nobody has written
        assert result.exit_code == 0, result.output
        assert len(came.result(timeout=60)) > 100
    assert stat.S_ISFIFO(pipe.stat().st_mode)
