"""repair and gc, on a small cache in both layouts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from click.testing import CliRunner

from kdcache.cli.main import main
from kdcache.store import open_cache, verify
from kdcache.store.places import open_storage
from kdcache.testing.store_contract import flip_bit

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def damage(cache: Path) -> str:
    """Flip a bit of the shard of a and b."""
    files = open_storage(cache)
    (key,) = (entry.key for entry in files.entries("data") if "u0" in entry.key)
    row = open_cache(cache).catalogue.slice(0, 1).to_pylist()[0]
    flip_bit(files, key, 8 * row["at.ctc.logp"])
    return key


def test_repair_of_a_sound_cache(cache: Path) -> None:
    result = run("repair", cache)
    assert result.exit_code == 0
    assert result.stdout == f"{cache}: no damage\n"


def test_repair_names_what_it_sets_aside_and_that_it_is_missing(cache: Path) -> None:
    key = damage(cache)
    result = run("repair", cache)
    assert result.exit_code == 3
    assert f"{key}, utterance a: column ctc.logp" in result.stdout
    assert "unit u0: set aside with its 3 utterances ('a', 'b', 'broken')" in result.stdout
    assert "kdcache extract" in result.stderr
    assert "Verifying: 4 of 4 files" in result.stderr
    assert verify(cache) == []
    assert open_cache(cache).ids == ["c"]
    assert run("repair", cache).exit_code == 3


def test_repair_as_json(cache: Path) -> None:
    key = damage(cache)
    result = run("repair", cache, "--json")
    found = json.loads(result.stdout)
    assert (result.exit_code, found["whole"]) == (3, False)
    assert [(d["file"], d["utterance"]) for d in found["damage"]] == [(key, "a")]
    assert found["units"] == [{"unit": "u0", "utterances": ["a", "b", "broken"]}]
    assert found["awaited"] == ["u0"]
    assert found["extraction"] is None


def test_repair_cannot_guess_a_header(cache: Path) -> None:
    flip_bit(open_storage(cache), "kdcache.json", 999)
    result = run("repair", cache)
    assert result.exit_code == 1
    assert "--config" in result.stderr


def test_repair_with_overrides_of_nothing(cache: Path) -> None:
    result = run("repair", cache, "--set", "a=b")
    assert result.exit_code == 2
    assert "--config" in result.stderr


def test_repair_of_no_cache(tmp_path: Path) -> None:
    assert run("repair", tmp_path).exit_code == 2


def test_gc_lists_and_deletes_only_when_told(cache: Path) -> None:
    files = open_storage(cache)
    files.put("data/u9-00.tar", b"left behind")
    assert "no garbage" in run("gc", cache).stderr
    listed = run("gc", cache, "--grace", "0")
    assert listed.exit_code == 0
    assert listed.stdout == "data/u9-00.tar  11\n"
    assert "1 files, 11 bytes could be deleted with --delete" in listed.stderr
    assert files.exists("data/u9-00.tar")
    deleted = run("gc", cache, "--grace", "0", "--delete", "--json")
    assert json.loads(deleted.stdout) == {
        "path": str(cache),
        "deleted": True,
        "bytes": 11,
        "files": [{"file": "data/u9-00.tar", "bytes": 11}],
    }
    assert not files.exists("data/u9-00.tar")
    assert verify(cache) == []


def test_gc_keeps_what_repair_set_aside(cache: Path) -> None:
    damage(cache)
    run("repair", cache)
    assert run("gc", cache, "--grace", "0", "--delete").stdout == ""
    assert len(run("gc", cache, "--grace", "0", "--quarantine").stdout.splitlines()) == 3


def test_gc_of_a_cache_with_an_unreadable_commit(cache: Path) -> None:
    flip_bit(open_storage(cache), "commits/u0.json", 100)
    assert run("gc", cache, "--delete").exit_code == 1


def test_compact_says_what_it_gathered(cache: Path) -> None:
    digest = open_cache(cache).content_digest()
    result = run("compact", cache)
    assert result.exit_code == 0
    assert f"{cache}: 3 utterances of 2 units in 4 files, " in result.stdout
    assert result.stderr == "Gathering: 2 of 2 units\n"
    found = json.loads(run("compact", cache, "--json").stdout)
    assert (found["utterances"], found["failed"], found["units"]) == (3, 2, 2)
    assert verify(cache) == []
    assert open_cache(cache).content_digest() == digest
    for command in (["status"], ["inspect"], ["inspect", "--utt", "b"], ["verify"]):
        assert run(*command, cache).exit_code == 0


def test_a_damaged_index_is_left_aside(cache: Path) -> None:
    run("compact", cache)
    flip_bit(open_storage(cache), "index/index.json", 99)
    assert run("verify", cache).exit_code == 1
    result = run("repair", cache)
    assert result.exit_code == 0, result.output
    assert "index/index.json: left aside" in result.stdout
    assert run("verify", cache).exit_code == 0
