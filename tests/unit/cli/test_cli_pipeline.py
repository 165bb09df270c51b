"""`kdcache pipeline`: what it prints, where it works, and what a mistake costs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import yaml
from click.testing import CliRunner, Result

from kdcache.cli.main import main
from tests.unit.pipeline.conftest import RECIPE

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one recipe, in an empty current folder."""
    (tmp_path / "recipes" / "fake").mkdir(parents=True)
    (tmp_path / "recipes" / "fake" / "pipeline.yaml").write_text(
        yaml.safe_dump(RECIPE, sort_keys=False)
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path / "recipes"


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(main, ["pipeline", *map(str, words)], catch_exceptions=False)


def test_list(recipes: Path) -> None:
    assert call("list", "--recipes", recipes).stdout == "fake  Fake stages\n"
    assert json.loads(call("list", "--recipes", recipes, "--json").stdout) == {
        "fake": "Fake stages"
    }


def test_the_recipes_that_come_along_are_listed() -> None:
    assert "efficient_rnnt  " in call("list").stdout


def test_show_runs_nothing(recipes: Path, tmp_path: Path) -> None:
    lines = call("show", "fake", "--recipes", recipes, "--small").stdout.splitlines()
    assert lines[0] == "Fake stages"
    assert lines[1].startswith("4 stages in ")
    assert lines[1].endswith("kdcache-pipelines/fake-small")
    assert lines[3].split()[0] == "each/a/7"
    assert lines[3].split()[-1] == "first"
    assert not (tmp_path / "kdcache-pipelines").exists()


def test_show_as_json(recipes: Path) -> None:
    shown = json.loads(call("show", "fake", "--recipes", recipes, "--json").stdout)
    assert shown["stages"][1]["reads"] == ["first.file"]
    assert shown["stages"][1]["settings"]["text"] == "a0!"


def test_run_prints_results_on_stdout_and_progress_on_stderr(recipes: Path) -> None:
    done = call("run", "fake", "--recipes", recipes)
    assert done.exit_code == 0
    assert done.stdout == "a0!helloa1!hellob0?hellob1?hello\n"
    assert "[1/10] first: tests.unit" in done.stderr
    assert "[10/10] last: done in" in done.stderr


def test_run_again_prints_the_results_again(recipes: Path) -> None:
    first = call("run", "fake", "--recipes", recipes)
    again = call("run", "fake", "--recipes", recipes)
    assert again.stdout == first.stdout
    assert again.stderr.count("unchanged") == 10


def test_run_as_json(recipes: Path, tmp_path: Path) -> None:
    out = tmp_path / "here"
    words = ("run", "fake", "--recipes", recipes, "--out", out, "--json")
    done = json.loads(call(*words, "--stage", "first").stdout)
    assert done["out"] == str(out)
    assert [(stage["job"], stage["state"]) for stage in done["stages"]] == [("first", "run")]
    again = json.loads(call(*words, "--from", "each/a/0", "--set", "params.seeds=[0]").stdout)
    assert [stage["state"] for stage in again["stages"]] == ["unchanged", *["run"] * 5]


def test_a_part_of_a_run_prints_no_results_that_are_not_there(recipes: Path) -> None:
    assert call("run", "fake", "--recipes", recipes, "--stage", "first").stdout == ""


def test_an_unknown_recipe_is_a_user_s_mistake(recipes: Path) -> None:
    refused = call("run", "fakee", "--recipes", recipes)
    assert refused.exit_code == 2
    assert "Did you mean 'fake'" in refused.stderr
