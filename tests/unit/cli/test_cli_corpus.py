"""``kdcache corpus``: output, exit codes, one sentence for every mistake."""

from __future__ import annotations

import importlib.util
import json
from typing import TYPE_CHECKING

import click
import numpy as np
import pytest
import soundfile as sf
from click.testing import CliRunner, Result

from kdcache.cli.corpus import corpus
from kdcache.cli.main import main
from kdcache.corpus import load_tokenizer, read_manifest

if TYPE_CHECKING:
    from pathlib import Path

needs_espeak = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None,
    reason="espeakng-loader is not installed: pip install 'kdcache[demo]'",
)


def run(*args: object) -> Result:
    return CliRunner().invoke(main, ["corpus", *map(str, args)])


@pytest.fixture
def kaldi(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("a", "b"):
        sf.write(folder / f"{name}.wav", np.zeros(8_000, np.int16), 16_000)
    (folder / "wav.scp").write_text("a a.wav\nb b.wav\n")
    (folder / "text").write_text("a HELLO WORLD\nb GOOD DAY\n")
    return folder


@pytest.fixture
def manifest(kaldi: Path, tmp_path: Path) -> Path:
    assert run("import", kaldi, tmp_path / "m.jsonl").exit_code == 0
    return tmp_path / "m.jsonl"


@pytest.mark.parametrize("name", sorted(corpus.commands))
def test_every_help_ends_with_an_example(name: str) -> None:
    result = run(name, "--help")
    assert result.exit_code == 0
    assert f"kdcache corpus {name} " in result.stdout.splitlines()[-1]


def test_help_of_the_group_lists_all() -> None:
    result = run("--help")
    assert set(corpus.commands) == {"synth", "import", "check", "tokenizer", "views"}
    assert all(f"  {name} " in result.stdout for name in corpus.commands)
    assert isinstance(corpus, click.Group)


def test_import(kaldi: Path, tmp_path: Path) -> None:
    result = run("import", kaldi, tmp_path / "m.jsonl")
    assert result.exit_code == 0
    assert result.stdout == f"{tmp_path / 'm.jsonl'}: 2 utterances, 0.00 h\n"
    texts = [u.text for u in read_manifest(tmp_path / "m.jsonl")]
    assert texts == ["HELLO WORLD", "GOOD DAY"]


def test_import_as_json_in_lower_case(kaldi: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.jsonl"
    result = run("import", kaldi, out, "--lower", "--json", "--format", "kaldi")
    data = json.loads(result.stdout)
    assert data["utterances"] == 2
    assert data["hours"] == pytest.approx(1 / 3600)
    assert [u.text for u in read_manifest(out)] == ["hello world", "good day"]


def test_import_says_what_it_could_not_measure(kaldi: Path, tmp_path: Path) -> None:
    (kaldi / "b.wav").unlink()
    result = run("import", kaldi, tmp_path / "m.jsonl")
    assert result.exit_code == 0
    assert "1 utterances have no duration: `kdcache corpus check" in result.stderr


@pytest.mark.parametrize("format_", ["auto", "nemo", "kaldi", "kaldj"])
def test_import_of_what_is_no_corpus(tmp_path: Path, format_: str) -> None:
    (tmp_path / "empty").mkdir()
    result = run("import", tmp_path / "empty", tmp_path / "m.jsonl", "--format", format_)
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "m.jsonl").exists()


def test_import_refuses_duplicated_ids(tmp_path: Path) -> None:
    row = json.dumps({"id": "x", "audio_filepath": "a.wav", "duration": 1})
    (tmp_path / "in.jsonl").write_text(f"{row}\n{row}\n")
    result = run("import", tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    assert result.exit_code == 2
    assert "ids more than once: 'x'" in result.stderr
    assert not (tmp_path / "out.jsonl").exists()


def test_check_of_a_clean_corpus(manifest: Path) -> None:
    result = run("check", manifest)
    assert result.exit_code == 0
    assert result.stdout == f"{manifest}: 2 utterances in 2 files, 0.00 h: no problem found\n"


def test_check_exits_1_with_problems(manifest: Path, kaldi: Path) -> None:
    (kaldi / "a.wav").unlink()
    result = run("check", manifest)
    assert result.exit_code == 1
    assert "1 problems" in result.stdout
    assert "a: bad-audio: " in result.stdout


def test_check_as_json(manifest: Path, kaldi: Path) -> None:
    (kaldi / "a.wav").write_bytes(b"")
    result = run("check", manifest, "--json")
    assert result.exit_code == 1
    data = json.loads(result.stdout)
    assert data["counts"] == {"bad-audio": 1}
    assert data["problems"][0]["id"] == "a"


def test_check_limits_what_it_prints(tmp_path: Path) -> None:
    rows = [json.dumps({"id": i, "audio_filepath": "none.wav", "text": "x"}) for i in range(30)]
    (tmp_path / "m.jsonl").write_text("\n".join(rows))
    assert "… and 28 more" in run("check", tmp_path / "m.jsonl", "--limit", 2).stdout
    assert "more (" not in run("check", tmp_path / "m.jsonl", "--limit", 0).stdout


def test_check_lists_duplicates_rather_than_stopping(tmp_path: Path, kaldi: Path) -> None:
    row = {"id": "x", "audio_filepath": "data/a.wav", "duration": 0.5, "text": "x"}
    (tmp_path / "m.jsonl").write_text("\n".join([json.dumps(row)] * 3))
    result = run("check", tmp_path / "m.jsonl")
    assert result.exit_code == 1
    assert "x: duplicate-id: The id stands there 3 times." in result.stdout


def test_check_spells_with_a_tokenizer(manifest: Path, tmp_path: Path) -> None:
    made = run("tokenizer", manifest, "--vocab-size", 30, "--type", "char", "--out", tmp_path / "t")
    assert made.exit_code == 0
    assert run("check", manifest, "--tokenizer", tmp_path / "t").exit_code == 0
    lower = manifest.read_text().replace("HELLO", "hello")
    manifest.write_text(lower)
    result = run("check", manifest, "--tokenizer", tmp_path / "t")
    assert result.exit_code == 1
    assert "cannot spell 'h', 'e', 'l', 'o'" in result.stdout or "cannot-spell" in result.stdout


@pytest.mark.parametrize(
    ("text", "message"),
    [("{broken", "line 1 is not JSON"), ('{"text": "x"}', "line 1 has no 'audio_filepath'")],
)
def test_check_of_unusable_input(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "m.jsonl").write_text(text)
    result = run("check", tmp_path / "m.jsonl")
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""


def test_check_with_a_missing_tokenizer(manifest: Path, tmp_path: Path) -> None:
    result = run("check", manifest, "--tokenizer", tmp_path / "none")
    assert result.exit_code == 2
    assert "does not exist; expected a .model file" in result.stderr


def test_tokenizer(manifest: Path, tmp_path: Path) -> None:
    result = run(
        "tokenizer",
        manifest,
        "--vocab-size",
        30,
        "--type",
        "char",
        "--out",
        tmp_path / "t",
        "--json",
    )
    data = json.loads(result.stdout)
    loaded = load_tokenizer(tmp_path / "t")
    assert (data["vocab_size"], data["fingerprint"]) == (loaded.vocab_size, loaded.fingerprint)
    assert loaded.decode(loaded.encode("GOOD WORLD")) == "GOOD WORLD"


def test_tokenizer_of_impossible_size(manifest: Path, tmp_path: Path) -> None:
    result = run("tokenizer", manifest, "--vocab-size", 4_000, "--out", tmp_path / "t")
    assert result.exit_code == 2
    assert "Got a vocabulary of 4000 pieces, expected at most" in result.stderr
    assert not (tmp_path / "t").exists()


@needs_espeak
def test_synth(tmp_path: Path) -> None:
    options = ("--kind", "digits", "--split", "train=2,test=1", "--processes", 1, "--snr", "none")
    result = run("synth", tmp_path / "c", *options)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0].endswith(": 3 utterances, 0.00 h")
    assert run("check", tmp_path / "c" / "train.jsonl").exit_code == 0
    again = run("synth", tmp_path / "c", *options, "--json")
    assert json.loads(again.stdout) == json.loads((tmp_path / "c" / "summary.json").read_text())
    other = run("synth", tmp_path / "c", *options, "--seed", 8)
    assert other.exit_code == 2
    assert "--overwrite" in other.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--kind", "songs"], "Got kind 'songs'"),
        (["--split", "train"], "Got split 'train'"),
        (["--snr", "loud"], "Got snr 'loud'"),
        (["--noise", "pink,brown"], "Got noise 'brown'"),
        (["--words", "9:3"], "Got words 9:3"),
        (["--voices", "1000"], "Got 1000 voices"),
        (["--held-out-voices", "--voices", "2"], "expected 3 to"),
        (["--rate", "fast"], "Got rate 'fast'"),
    ],
)
def test_synth_with_bad_settings(tmp_path: Path, options: list[str], message: str) -> None:
    result = run("synth", tmp_path / "c", *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "c").exists()


def test_human_speech(shared_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "natural.jsonl"
    imported = run("import", shared_data / "natural" / "natural.jsonl", out)
    assert imported.stdout == f"{out}: 792 utterances, 1.19 h\n"
    checked = run("check", out, "--json")
    assert checked.exit_code == 0
    assert json.loads(checked.stdout)["problems"] == []


def test_views(manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "views.jsonl"
    result = run("views", manifest, out, "--speed", 1, "--speed", 0.5, "--json")
    assert result.exit_code == 0
    data = json.loads(result.stdout)
    assert (data["utterances"], data["hours"]) == (4, pytest.approx(3 / 3600))
    found = [(u.id, u.audio.speed, u.text) for u in read_manifest(out)]
    assert found[:2] == [("a", 1.0, "HELLO WORLD"), ("a-sp0.5", 0.5, "HELLO WORLD")]
    assert run("check", out).exit_code == 0


def test_views_that_are_there_already_are_refused(manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "views.jsonl"
    result = run("views", manifest, out, "--speed", 0.9, "--speed", 0.9)
    assert result.exit_code == 2
    assert "has ids more than once: 'a-sp0.9', 'b-sp0.9'" in result.stderr
    assert not out.exists()
    assert run("views", manifest, out, "--speed", 9).exit_code == 2
