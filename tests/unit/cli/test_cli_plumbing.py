"""Options and output that the commands share."""

from __future__ import annotations

import json
import math
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from kdcache.cli.plumbing import (
    cache_argument,
    config_argument,
    echo_json,
    example,
    json_option,
    say,
    set_option,
)


@click.command(epilog=example("tool x.yaml c --json"))
@config_argument
@cache_argument
@set_option
@json_option
def tool(config: Path, cache: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Show what was given."""
    assert isinstance(config, Path)
    say("working")
    echo_json({"config": str(config), "cache": cache, "set": overrides, "json": as_json})


def run(*arguments: str) -> dict[str, object]:
    result = CliRunner().invoke(tool, list(arguments))
    assert result.exit_code == 0, result.output
    assert result.stderr == "working\n"
    parsed: dict[str, object] = json.loads(result.stdout)
    return parsed


def test_the_arguments_reach_the_command() -> None:
    given_all = run("x.yaml", "s3://b/c", "--set", "a.b=1", "--set", "c=[2]", "--json")
    assert given_all == {
        "config": "x.yaml",
        "cache": "s3://b/c",
        "set": ["a.b=1", "c=[2]"],
        "json": True,
    }


def test_their_defaults() -> None:
    assert run("x.yaml", "c") == {"config": "x.yaml", "cache": "c", "set": [], "json": False}


def test_the_help_ends_with_the_example() -> None:
    assert (
        CliRunner()
        .invoke(tool, ["--help"])
        .output.endswith("  Example:\n    tool x.yaml c --json\n")
    )


def test_many_examples() -> None:
    assert example("a", "b") == "\b\nExamples:\n  a\n  b"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_json_has_no_such_number(value: float, capsys: pytest.CaptureFixture[str]) -> None:
    echo_json({"a": [value, (value, 1)], "b": {"c": value}})
    assert json.loads(capsys.readouterr().out) == {"a": [None, [None, 1]], "b": {"c": None}}


def test_json_keeps_letters(capsys: pytest.CaptureFixture[str]) -> None:
    echo_json({"text": "žluťoučký"})
    assert "žluťoučký" in capsys.readouterr().out


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab"), inner, max_size=3),
)  # fmt: skip


@given(value=JSON)
def test_json_is_read_back(value: object) -> None:
    @click.command()
    def show() -> None:
        echo_json(value)

    assert json.loads(CliRunner().invoke(show).stdout) == value
