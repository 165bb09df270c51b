"""convert, on a small cache in both layouts, and how a codec is written."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from kdcache.cli.convert import parse_codec
from kdcache.cli.main import main
from kdcache.errors import ConfigError
from kdcache.store import open_cache, verify

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_convert_says_what_it_made(cache: Path, tmp_path: Path) -> None:
    result = run("convert", cache, tmp_path / "there", "--layout", "webdataset")
    assert result.exit_code == 0, result.output
    digest = open_cache(cache).content_digest()
    assert f"{tmp_path / 'there'}: 3 utterances in 2 units (webdataset)\n" in result.stdout
    assert f"content digest {digest}\n" in result.stdout
    assert "Converting: 5 of 5 utterances" in result.stderr
    assert verify(tmp_path / "there") == []


def test_convert_as_json(cache: Path, tmp_path: Path) -> None:
    codecs = ["--codec", "lattice=fp16", "--codec", "ctc={name: log8, floor: 9}"]
    result = run("convert", cache, tmp_path / "x", *codecs, "--unit-utterances", 2, "--json")
    found = json.loads(result.stdout)
    made = open_cache(tmp_path / "x")
    assert (found["recoded"], found["units"]) == (["ctc", "lattice"], 3)
    assert found["content_digest"] == made.content_digest()
    assert made.spec.target("ctc").codec["floor"] == 9


def test_inspect_shows_both_losses(cache: Path, tmp_path: Path) -> None:
    run("convert", cache, tmp_path / "x", "--codec", "lattice=fp16")
    text = run("inspect", tmp_path / "x").stdout
    assert "recode_kl_max" in text
    assert "source_kl_max 3" in text


def test_urls_are_caches_wherever_one_is_asked_for(cache: Path, tmp_path: Path) -> None:
    pytest.importorskip("obstore", reason="object stores need obstore")
    url = f"memory://cli{tmp_path.name.replace('_', '-')}{cache.stat().st_mtime_ns}/cache"
    assert run("convert", cache, url).exit_code == 0
    for command in (["status"], ["inspect"], ["verify"], ["repair"], ["gc"]):
        result = run(*command, url)
        assert result.exit_code == 0, result.output
    assert run("inspect", url, "--utt", "b").exit_code == 0
    assert open_cache(url).content_digest() == open_cache(cache).content_digest()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lattice=fp16", ("lattice", {"name": "fp16"})),
        ("lattice=log8:floor=12", ("lattice", {"name": "log8", "floor": 12})),
        ("a=b:x=1.5,y=true,z=no-c", ("a", {"name": "b", "x": 1.5, "y": True, "z": "no-c"})),
        ("a=my.module:Codec", ("a", {"name": "my.module:Codec"})),
        ("a=my.module:Codec:bits=3", ("a", {"name": "my.module:Codec", "bits": 3})),
        ("a={name: log8, floor: 2}", ("a", {"name": "log8", "floor": 2})),
    ],
)
def test_a_codec_is_written_in_one_word_or_as_yaml(
    text: str, expected: tuple[str, dict[str, Any]]
) -> None:
    assert parse_codec(text) == expected


@pytest.mark.parametrize("text", ["lattice", "=fp16", "lattice=", "lattice={name", "a={1}x"])
def test_what_is_no_codec(text: str) -> None:
    with pytest.raises(ConfigError, match="lattice=log8:floor=12"):
        parse_codec(text)
