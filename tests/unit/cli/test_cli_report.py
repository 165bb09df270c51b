"""report: files, and what users get wrong. What the page does is tested in a browser."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from kdcache.cli.main import main
from kdcache.cli.sound_of import SoundOf
from kdcache.errors import DamagedCacheError
from kdcache.inspect.picture import read_picture
from kdcache.store import create_or_open, open_cache
from kdcache.testing.samples import TOKENIZER_FILES, sample_spec

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_the_same_cache_gives_the_same_page(cache: Path, tmp_path: Path) -> None:
    pages = []
    for name in ("one.html", "two.html"):
        result = run("report", cache, "-o", tmp_path / name, "--top", 1)
        assert (result.exit_code, result.stdout) == (0, "")
        assert f"{name}: " in result.stderr
        pages.append((tmp_path / name).read_bytes())
    assert pages[0] == pages[1]
    text = pages[0].decode()
    assert text.count("<img ") == 3  # the worst, the best, and a sample of the one that is left
    assert "<audio" not in text
    assert "1 audio, 1 transcript" in text  # what failed


def test_audio_of_the_corpus(cache: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "c.wav", np.zeros(28_800), 16_000)
    (tmp_path / "b.wav").write_bytes(b"this is no sound")
    manifest, out = tmp_path / "corpus.jsonl", tmp_path / "r.html"
    rows = [{"id": name, "audio_filepath": f"{name}.wav", "text": ""} for name in "bc"]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = run("report", cache, "-o", out, "--manifest", manifest)
    assert result.exit_code == 0, result.output
    text = out.read_text()
    assert text.count("<audio ") == 1  # of c
    assert text.count("no audio: ") == 1  # of b
    assert "a is not in" in result.stderr
    assert text.count("<img ") == 3


def test_of_a_manifest_no_more_is_kept_than_is_shown(cache: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "c.wav", np.zeros(28_800), 16_000)
    row = {"id": "c", "audio_filepath": "c.wav", "text": ""}
    more = [{**row, "id": f"x{number}"} for number in range(50)]
    manifest = tmp_path / "corpus.jsonl"
    manifest.write_text("".join(json.dumps(one) + "\n" for one in [*more, row]))
    opened = open_cache(cache)
    for key, at_speed in (("c", "c"), ("c-sp0.9", "c")):
        sounds = SoundOf(opened, manifest, [key])
        assert sounds._listed is not None
        assert list(sounds._listed._known or ()) == [at_speed]
    assert SoundOf(opened, manifest, ["c"]).read("c") is not None


def test_what_is_damaged_is_told_and_the_others_are_shown(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(opened: Any, key: str, *more: Any) -> Any:
        if key == "b":
            raise DamagedCacheError("b is not what was written")
        return read_picture(opened, key, *more)

    monkeypatch.setattr("kdcache.inspect.picture.read_picture", read)
    assert run("report", cache, "-o", tmp_path / "r.html").exit_code == 0
    text = (tmp_path / "r.html").read_text()
    assert text.count("<img ") == 2
    assert '<p class="note">b is not what was written</p>' in text


def test_an_empty_cache(tmp_path: Path) -> None:
    create_or_open(tmp_path / "cache", sample_spec(), "zarr", TOKENIZER_FILES)
    result = run("report", tmp_path / "cache", "-o", tmp_path / "r.html")
    assert result.exit_code == 0, result.output
    assert "<dt>utterances</dt><dd>0</dd>" in (tmp_path / "r.html").read_text()


def test_a_page_stays_small(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdcache.cli.report.ROOM", 100)
    assert run("report", cache, "-o", tmp_path / "r.html").exit_code == 0
    text = (tmp_path / "r.html").read_text()
    assert text.count("were left out, to keep this page small") == 3
    assert "<img " not in text


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("-o", "/nowhere/at/all/r.html", "--top", "0"), "cannot write"),
        (("-o", "r.html", "--sort", "text"), "a field of numbers"),
        (("-o", "r.html", "--sort", "duratio"), "no field 'duratio'"),
        ((), "Missing option '-o'"),
    ],
)
def test_mistakes_are_one_sentence(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...], told: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    result = run("report", cache, *arguments)
    assert result.exit_code == 2
    assert told in result.stderr
    assert not list(tmp_path.glob("*.html"))


def test_not_a_cache(tmp_path: Path) -> None:
    result = run("report", tmp_path, "-o", tmp_path / "r.html")
    assert result.exit_code == 2
