"""status, inspect and verify, on a small cache in both layouts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from kdcache.cli.main import main
from kdcache.store import open_cache

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def data(*arguments: object, code: int = 0) -> Any:
    """What a command prints as JSON."""
    result = run(*arguments, "--json")
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def manifest(folder: Path, *names: str) -> Path:
    path = folder / "corpus.jsonl"
    lines = [
        {"id": name, "audio_filepath": f"{name}.wav", "duration": 3.6, "text": name}
        for name in names
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def flip(path: Path, at: int) -> None:
    """Turn one bit over."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def shard_of(cache: Path, name: str) -> tuple[Path, int]:
    """The file of an utterance, and where its first column is."""
    table = open_cache(cache).catalogue.to_pylist()
    row = next(row for row in table if row["id"] == name)
    column = min(key for key in row if key.startswith("at.") and row[key] is not None)
    return cache / row["shard"], row[column]


# status


def test_status_says_what_is_committed(cache: Path) -> None:
    result = run("status", cache)
    assert result.exit_code == 0
    assert result.stderr == ""
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines[:3] == [
        str(cache),
        "committed 3 utterances, 5.4 s, in 2 units",
        "failed 2: audio 1, transcript 1",
    ]


def test_status_as_json(cache: Path) -> None:
    status = data("status", cache)
    assert status["bytes"] == open_cache(cache).nbytes
    assert status["hours"] == pytest.approx(5.4 / 3600)
    assert {key: status[key] for key in ("utterances", "units", "failed", "corpus")} == {
        "utterances": 3,
        "units": 2,
        "failed": {"audio": 1, "transcript": 1},
        "corpus": None,
    }


def test_status_lists_each_failure_where_it_is_asked_to(cache: Path) -> None:
    rows = open_cache(cache).failures.to_pylist()
    wanted = [f"{row['id']}: {row['error']}: {row['message']}" for row in rows]
    assert len(wanted) == 2
    plain = run("status", cache).stdout.splitlines()
    assert run("status", cache, "--failures").stdout.splitlines() == [*plain, *wanted]
    assert "failures" not in data("status", cache)
    listed = data("status", cache, "--failures")["failures"]
    assert [(item["id"], item["error"]) for item in listed] == [
        (row["id"], row["error"]) for row in rows
    ]
    assert all(item["message"] for item in listed)


def test_status_of_a_corpus_that_is_all_there(cache: Path, tmp_path: Path) -> None:
    result = run("status", cache, "--manifest", manifest(tmp_path, "a", "c"))
    assert result.exit_code == 0
    assert "2 of 2 utterances (100.0 %)" in result.stdout


def test_status_of_a_corpus_that_is_not(cache: Path, tmp_path: Path) -> None:
    corpus = manifest(tmp_path, "a", "b", "broken", "new", "newer")
    result = run("status", cache, "--manifest", corpus)
    assert result.exit_code == 3
    assert "2 of 5 utterances (40.0 %), 1 failed, 2 waiting (7.2 s)" in result.stdout
    assert data("status", cache, "--manifest", corpus, code=3)["corpus"] == {
        "utterances": 5,
        "cached": 2,
        "failed": 1,
        "waiting": 2,
        "waiting_hours": pytest.approx(0.002),
        "complete": False,
    }


def test_status_with_a_manifest_that_is_not_there(cache: Path, tmp_path: Path) -> None:
    result = run("status", cache, "--manifest", tmp_path / "no.jsonl")
    assert result.exit_code == 2
    assert "no.jsonl" in result.stderr


# inspect


def test_inspect_is_one_screen(cache: Path) -> None:
    result = run("inspect", cache)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= max(100, len(str(cache)) + 40)


def test_inspect_says_what_it_is(cache: Path) -> None:
    text = " ".join(run("inspect", cache).stdout.split())
    for part in (
        f"({open_cache(cache).layout}, format 1)",
        "teacher tiny, transducer fingerprint aaaaaaaaaaaaaaaa tokenizer",
        "tokenizer fingerprint bbbbbbbbbbbbbbbb",
        "utterances 3 utterances, 5.4 s, in 2 units",
        "failed 2: audio 1, transcript 1",
        "target lattice keeps lattice, top_k 2 codec log8",
        "fidelity kl_max 3, kl_mean 0.5 (nats)",
        "target ctc keeps encoder_logits, top_k 3 codec fp16",
        "fidelity not measured",
        "per hour of audio",
    ):
        assert part in text


def test_what_inspect_says_of_python_is_true(cache: Path) -> None:
    lines = [line.strip() for line in run("inspect", cache).stdout.splitlines()]
    program = lines[lines.index("in Python") + 1 :]
    import kdcache

    names: dict[str, Any] = {"kdcache": kdcache}
    exec("\n".join(program), names)
    assert names["record"].logp_TSC.shape == (5, 3, 5)


def test_inspect_as_json(cache: Path) -> None:
    found = data("inspect", cache)
    assert found["content_digest"] is None
    assert [target["name"] for target in found["targets"]] == ["lattice", "ctc"]
    assert found["targets"][0]["codec"]["name"] == "log8"
    assert found["bytes_per_hour"] == pytest.approx(found["bytes"] / found["hours"])


def test_inspect_shows_the_digest_when_asked(cache: Path) -> None:
    digest = open_cache(cache).content_digest()
    assert data("inspect", cache, "--digest")["content_digest"] == digest
    assert digest in run("inspect", cache, "--digest").stdout


def test_inspect_one_utterance(cache: Path) -> None:
    text = " ".join(run("inspect", cache, "--utt", "b").stdout.split())
    assert text.startswith(
        "b text say b speaker ada duration 1.80 s unit u0 tokens 2: 7 9 frames 5"
    )
    assert "lattice.kl_max 2, lattice.kl_mean 0.5 (nats)" in text


def test_inspect_one_utterance_as_json(cache: Path) -> None:
    found = data("inspect", cache, "--utt", "b")
    assert (found["id"], found["tokens"], found["frames"]) == ("b", [7, 9], 5)
    assert found["fidelity"] == {"lattice.kl_max": 2.0, "lattice.kl_mean": 0.5}
    assert found["bytes"] == sum(column["bytes"] for column in found["columns"])
    stored = open_cache(cache).read_columns("b")
    assert {column["name"]: column["bytes"] for column in found["columns"]} == {
        name: array.nbytes for name, array in stored.items()
    }


def test_inspect_an_utterance_that_failed(cache: Path) -> None:
    result = run("inspect", cache, "--utt", "broken")
    assert result.exit_code == 0
    assert "audio: the file is truncated" in result.stdout
    assert data("inspect", cache, "--utt", "broken")["error"] == "audio"


def test_inspect_an_unknown_utterance(cache: Path) -> None:
    result = run("inspect", cache, "--utt", "brokn")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "No utterance 'brokn' among the 3" in result.stderr
    assert "Nearest: broken" in result.stderr


# verify


def test_verify_a_clean_cache(cache: Path) -> None:
    result = run("verify", cache)
    assert (result.exit_code, result.stdout) == (0, "")
    assert f"{cache}: clean" in result.stderr
    assert "Verifying: 4 of 4 files" in result.stderr
    assert data("verify", cache) == {"path": str(cache), "clean": True, "damage": []}


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_verify_finds_a_flipped_bit(cache: Path, name: str) -> None:
    shard, at = shard_of(cache, name)
    flip(shard, at)
    result = run("verify", cache)
    assert result.exit_code == 1
    assert f"{shard.relative_to(cache)}, utterance {name}: " in result.stdout
    assert "1 damaged" in result.stderr


def test_verify_as_json(cache: Path) -> None:
    shard, at = shard_of(cache, "c")
    flip(shard, at)
    found = data("verify", cache, code=1)
    assert found["clean"] is False
    assert [(d["file"], d["utterance"]) for d in found["damage"]] == [
        (str(shard.relative_to(cache)), "c")
    ]


def test_verify_finds_a_file_that_is_gone(cache: Path) -> None:
    shard, _ = shard_of(cache, "a")
    shard.unlink()
    result = run("verify", cache)
    assert result.exit_code == 1
    assert str(shard.relative_to(cache)) in result.stdout


def test_verify_finds_a_tokenizer_that_was_changed(cache: Path) -> None:
    (cache / "tokenizer" / "vocab.json").write_text("[]")
    result = run("verify", cache)
    assert result.exit_code == 1
    assert "tokenizer/vocab.json" in result.stdout


def test_what_is_not_damaged_is_still_shown(cache: Path) -> None:
    shard, at = shard_of(cache, "a")
    flip(shard, at)
    assert run("status", cache).exit_code == 0
    assert run("inspect", cache, "--utt", "b").exit_code == 0
