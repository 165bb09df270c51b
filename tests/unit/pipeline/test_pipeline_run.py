"""What is done and unchanged is not done again; what has changed is made anew, never mixed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from kdcache.errors import ConfigError, KdcacheError
from kdcache.pipeline.record import read_record
from kdcache.pipeline.run import SET_ASIDE

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.pipeline.conftest import Pipeline

ALL = [
    "first",
    *("each/a/0", "each/a/1", "each/b/0", "each/b/1"),
    *("after/a/0", "after/a/1", "after/b/0", "after/b/1"),
    "last",
]
LAST = "a0!helloa1!hellob0?hellob1?hello"


def test_all_stages_run_in_their_order(fake: Pipeline) -> None:
    assert fake.run() == ALL
    assert fake.began() == ALL
    assert fake.text("last") == LAST


def test_nothing_is_done_twice(fake: Pipeline) -> None:
    fake.run()
    assert fake.run() == []
    assert fake.began() == ALL
    assert all("unchanged" in line for line in fake.said)


def test_a_record_says_what_a_stage_was_made_from(fake: Pipeline) -> None:
    fake.run()
    record = json.loads((fake.out / "each" / "a" / "0" / "stage.json").read_text())
    first = json.loads((fake.out / "first" / "stage.json").read_text())
    assert record["state"] == "done"
    assert record["settings"] == {"text": "a0!", "read": ["first/file.txt"]}
    assert record["inputs"] == {"first.file": first["outputs"]["file"]}
    assert record["facts"] == {"length": 8}


def test_a_changed_setting_is_followed_to_the_end(fake: Pipeline) -> None:
    fake.run()
    again = fake.run("stages.each.for_each.arm.b.mark=x")
    assert again == ["each/b/0", "each/b/1", "after/b/0", "after/b/1", "last"]
    assert fake.text("last") == LAST.replace("?", "x")
    assert any('each/b/0: made anew, because text was "b0?"' in line for line in fake.said)


def test_what_was_made_before_is_set_aside(fake: Pipeline) -> None:
    fake.run()
    fake.run("params.word=goodbye")
    fake.run("params.word=ciao")
    kept = [fake.out / SET_ASIDE / f"first.{n}" / "file.txt" for n in (1, 2)]
    assert [path.read_text() for path in kept] == ["hello", "goodbye"]
    assert not (fake.out / "first" / "half.txt").exists()


def test_a_stage_whose_inputs_come_out_equal_is_not_run(fake: Pipeline) -> None:
    fake.run()
    # other.txt is the same whatever the text is; who reads it alone need not run again.
    recipe_change = "stages.after.settings.read=['${each.other}']"
    fake.run(recipe_change)
    assert fake.run(recipe_change, "params.word=hi") == [*ALL[:5]]


def test_free_settings_change_nothing(fake: Pipeline) -> None:
    fake.run()
    assert fake.run("stages.first.settings.free=3") == []


def test_writing_a_default_out_changes_nothing(fake: Pipeline) -> None:
    fake.run()
    assert fake.run("stages.last.settings.text=''") == []


def test_a_run_can_be_moved(fake: Pipeline, tmp_path: Path) -> None:
    fake.run()
    fake.out = fake.out.rename(tmp_path / "elsewhere")
    assert fake.run() == []


def test_a_file_from_outside_counts_by_content(fake: Pipeline, tmp_path: Path) -> None:
    file = tmp_path / "given.txt"
    file.write_text("one")
    setting = f"stages.first.settings.read=['{file}']"
    fake.run(setting)
    os.utime(file, (0, 0))
    assert fake.run(setting) == []
    file.write_text("two")
    assert "first" in fake.run(setting)
    assert fake.text("first") == "hellotwo"


def test_a_file_from_outside_that_is_not_there(fake: Pipeline) -> None:
    with pytest.raises(KdcacheError, match=r"absent\.txt is not there"):
        fake.run("stages.first.settings.read=['/absent.txt']")


def test_lost_outputs_are_made_again(fake: Pipeline) -> None:
    fake.run()
    (fake.out / "first" / "file.txt").unlink()
    assert fake.run() == ["first"]
    assert any("outputs of it are gone" in line for line in fake.said)


def test_only_a_stage_and_what_it_needs(fake: Pipeline) -> None:
    assert fake.run(only=["after/a/1"]) == ["first", "each/a/1", "after/a/1"]
    assert fake.run(only=["after"]) == [
        job for job in ALL[:-1] if job not in ("first", "each/a/1", "after/a/1")
    ]


def test_from_a_stage_on_everything_is_made_again(fake: Pipeline) -> None:
    fake.run()
    assert fake.run(anew=["each/a/0"]) == ["each/a/0", "after/a/0", "last"]


@pytest.mark.parametrize("how", ["only", "anew"])
def test_an_unknown_stage(fake: Pipeline, how: str) -> None:
    with pytest.raises(ConfigError, match="There is no stage 'frist'; the stages are first, each"):
        fake.run(**{how: ["frist"]})


def test_a_folder_of_something_else_is_left_alone(fake: Pipeline) -> None:
    (fake.out / "first").mkdir(parents=True)
    (fake.out / "first" / "thesis.tex").write_text("mine")
    with pytest.raises(ConfigError, match="holds what no pipeline made; give another --out"):
        fake.run()
    assert (fake.out / "first" / "thesis.tex").read_text() == "mine"


def test_a_damaged_record_is_told(fake: Pipeline) -> None:
    fake.run()
    (fake.out / "each" / "a" / "0" / "stage.json").write_text("{")
    with pytest.raises(KdcacheError, match="delete the folder .*each/a/0, and the stage is run"):
        fake.run()


def test_two_runs_do_not_share_a_folder(fake: Pipeline) -> None:
    import fcntl

    fake.out.mkdir()
    with (fake.out / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="Another run works in"):
            fake.run()


def test_a_kind_that_forgets_its_output(fake: Pipeline) -> None:
    kind = "tests.unit.pipeline.fake_kinds:Forgetful"
    with pytest.raises(KdcacheError, match="first has ended without its output file"):
        fake.run(f"stages.first.kind={kind}")


def test_a_failed_stage_is_gone_on_with(fake: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_FAIL", "after/a/0")
    with pytest.raises(RuntimeError):
        fake.run()
    record = read_record(fake.out / "after" / "a" / "0")
    assert record is not None
    assert record.state == "begun"
    monkeypatch.delenv("FAKE_FAIL")
    assert fake.run() == ALL[ALL.index("after/a/0") :]
    assert any(line.endswith("after/a/0: goes on") for line in fake.said)


def test_what_was_begun_with_other_settings_is_not_gone_on_with(
    fake: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_FAIL", "first")
    with pytest.raises(RuntimeError):
        fake.run()
    monkeypatch.delenv("FAKE_FAIL")
    fake.run("params.word=other")
    assert (fake.out / SET_ASIDE / "first.1" / "half.txt").read_text() == "hello"
    assert fake.text("first") == "other"


@pytest.mark.parametrize("killed", ["first", "each/b/0", "last"])
def test_a_killed_run_goes_on_and_ends_the_same(fake: Pipeline, killed: str) -> None:
    command = [sys.executable, "-m", "kdcache", "pipeline", "run", "fake"]
    command += ["--recipes", str(fake.recipes), "--out", str(fake.out)]
    dead = subprocess.run(command, env={**os.environ, "FAKE_KILL": killed}, check=False)
    assert dead.returncode == -signal.SIGKILL
    assert fake.began() == ALL[: ALL.index(killed) + 1]
    assert fake.run() == ALL[ALL.index(killed) :]
    assert fake.text("last") == LAST
