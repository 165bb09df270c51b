"""plot: files, audio from the corpus, and what users get wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from kdcache.cli.main import main
from kdcache.corpus.audio import encode_flac, to_int16
from kdcache.store import create_or_open
from kdcache.testing.samples import TOKENIZER_FILES, sample_packed, sample_spec


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_a_picture_beside_the_reader(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("plot", cache, "--utt", "a")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "a.png: a" in result.stderr
    assert Path("a.png").read_bytes().startswith(b"\x89PNG")


def test_an_svg_without_and_with_audio(cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.svg"
    assert run("plot", cache, "--utt", "a", "-o", out).exit_code == 0
    first = out.read_text()
    assert "Lattice: nodes of target lattice" in first
    assert "Encoder: posteriors of target ctc" in first
    assert "Audio" not in first
    soundfile.write(tmp_path / "a.wav", np.zeros(28_800), 16_000)
    manifest = tmp_path / "corpus.jsonl"
    manifest.write_text(json.dumps({"id": "a", "audio_filepath": "a.wav", "text": "say a"}))
    assert run("plot", cache, "--utt", "a", "-o", out, "--manifest", manifest).exit_code == 0
    assert "Audio: spectrogram" in out.read_text()
    shown = run("plot", cache, "--utt", "b", "-o", out, "--manifest", manifest)
    assert shown.exit_code == 0
    assert "b is not in" in shown.stderr
    assert "Audio" not in out.read_text()
    (tmp_path / "a.wav").write_bytes(b"this is no sound")
    shown = run("plot", cache, "--utt", "a", "-o", out, "--manifest", manifest)
    assert shown.exit_code == 0
    assert "Drawn without audio: " in shown.stderr


def test_audio_that_the_cache_has(tmp_path: Path) -> None:
    spec = sample_spec(audio="flac")
    writer = create_or_open(tmp_path / "cache", spec, "zarr", TOKENIZER_FILES)
    tone = to_int16(0.5 * np.sin(np.arange(16_000) / 5))
    item = sample_packed(spec, "u0")
    columns = {**item.columns, "audio": np.frombuffer(encode_flac(tone, 16_000), np.uint8)}
    writer.commit("a" * 64, [replace(item, columns=columns, duration=1.0)], [], "test")
    out = tmp_path / "u0.svg"
    drawn = run("plot", tmp_path / "cache", "--utt", "u0", "-o", out, "--audio", "waveform")
    assert drawn.exit_code == 0, drawn.output
    assert "Audio: waveform" in out.read_text()
    assert "Note: target lattice has" in drawn.stderr  # other labels than the catalogue
    assert "Lattice" not in out.read_text()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--utt", "aa"), "Nearest: a"),
        (("--utt", "broken"), "it failed (the file is truncated)"),
        (("--utt", "a", "-o", "a.pdf"), "a .png or .svg file"),
        (("--utt", "a", "-o", "/nowhere/at/all/a.png"), "cannot write"),
        (("--utt", "a", "--manifest", "/nowhere.jsonl"), "/nowhere.jsonl"),
        ((), "Missing option '--utt'"),
    ],
)
def test_mistakes_are_one_sentence(cache: Path, arguments: tuple[str, ...], told: str) -> None:
    result = run("plot", cache, *arguments)
    assert result.exit_code == 2
    assert told in result.stderr
    assert "Traceback" not in result.stderr
