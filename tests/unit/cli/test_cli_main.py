"""The root command: what it lists, what it costs, and how it fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner

from kdcache import __version__
from kdcache.cli.lazy import LazyCommand, LazyGroup, loaded
from kdcache.cli.main import COMMANDS, ENVIRONMENT, main

if TYPE_CHECKING:
    from pathlib import Path

LIGHT = {
    "__future__", "_distutils_hack", "click", "kdcache", "mpl_toolkits", "site", "sitecustomize",
    "typing_extensions", "usercustomize",
}  # fmt: skip
"""What ``kdcache --help`` may import beyond the standard library."""


def kdcache(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "kdcache", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )


def test_help_lists_every_command_in_the_order_of_the_work() -> None:
    lines = CliRunner().invoke(main, ["--help"]).output.splitlines()
    start = lines.index("Commands:") + 1
    assert [line.split()[0] for line in lines[start : start + len(COMMANDS)]] == list(COMMANDS)


def test_help_without_arguments_is_bad_usage() -> None:
    result = CliRunner().invoke(main, [])
    assert result.exit_code == 2
    assert "Commands:" in result.output


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_both_help_flags(flag: str) -> None:
    assert CliRunner().invoke(main, [flag]).output.startswith("Usage: kdcache [OPTIONS] COMMAND")


def test_version() -> None:
    assert CliRunner().invoke(main, ["--version"]).output == f"kdcache {__version__}\n"


def test_python_dash_m() -> None:
    run = kdcache("--version")
    assert (run.returncode, run.stdout, run.stderr) == (0, f"kdcache {__version__}\n", "")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, json, runpy\n"
        "sys.argv = ['kdcache', '--help']\n"
        "try: runpy.run_module('kdcache', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print(json.dumps(sorted(sys.modules)), file=sys.stderr)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = {name.partition(".")[0] for name in json.loads(run.stderr.splitlines()[-1])}
    # An editable install adds a finder named after the package.
    foreign = {name for name in names - set(sys.stdlib_module_names) - LIGHT if name[0] != "_"}
    assert foreign == set()


def test_an_unknown_command_names_the_nearest() -> None:
    result = CliRunner().invoke(main, ["inspct", "x"])
    assert result.exit_code == 2
    assert "No such command 'inspct'." in result.stderr
    assert "'inspect'" in result.stderr


def test_an_unknown_option_is_bad_usage() -> None:
    result = CliRunner().invoke(main, ["--verison"])
    assert result.exit_code == 2
    assert "--version" in result.stderr


def test_a_missing_argument_is_bad_usage() -> None:
    result = CliRunner().invoke(main, ["status"])
    assert result.exit_code == 2
    assert "Missing argument 'CACHE'" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("command", ["status", "inspect", "verify"])
def test_a_path_that_is_no_cache(command: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, [command, str(tmp_path)])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert str(tmp_path) in result.stderr
    assert "Traceback" not in result.stderr


def test_the_environment_is_set_before_a_command_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    CliRunner().invoke(main, ["--version"])
    assert {name: os.environ[name] for name in ENVIRONMENT} == ENVIRONMENT


def test_a_user_s_environment_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    CliRunner().invoke(main, ["--version"])
    assert os.environ["HF_HUB_OFFLINE"] == "0"


def test_without_standalone_mode_errors_reach_the_caller() -> None:
    with pytest.raises(click.UsageError):
        main.main(["no-such-command"], standalone_mode=False)


# The lazy group itself


@pytest.fixture
def group() -> LazyGroup:
    return LazyGroup("tools", lazy={"echo": (f"{__name__}:echo", "Say it again.")})


@click.command("echo")
@click.argument("word")
def echo(word: str) -> None:
    """Say it again."""
    click.echo(word)


def test_a_placeholder_shows_its_help_without_the_command(group: LazyGroup) -> None:
    broken = LazyGroup("tools", lazy={"gone": ("no.such.module:command", "Was here once.")})
    assert "Was here once." in CliRunner().invoke(broken, ["--help"]).output
    assert isinstance(group.get_command(click.Context(group), "echo"), LazyCommand)


def test_the_real_command_runs(group: LazyGroup) -> None:
    result = CliRunner().invoke(group, ["echo", "hello"])
    assert (result.exit_code, result.output) == (0, "hello\n")


def test_the_real_command_s_own_help(group: LazyGroup) -> None:
    assert "WORD" in CliRunner().invoke(group, ["echo", "--help"]).output


def test_loaded_leaves_real_commands_alone() -> None:
    assert loaded(echo) is echo
    assert loaded(LazyCommand("echo", f"{__name__}:echo", "")).name == "echo"
