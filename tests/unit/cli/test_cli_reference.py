"""Every command's help, and the page that is made from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import pytest

from kdcache.cli.lazy import loaded
from kdcache.cli.main import COMMANDS, main
from kdcache.cli.reference import reference_page, walk

if TYPE_CHECKING:
    from pathlib import Path

CONTEXTS = list(walk())


def lines_of(context: click.Context) -> list[str]:
    return context.get_help().rstrip().splitlines()


def test_the_walk_meets_the_whole_surface() -> None:
    met = {context.command_path for context in CONTEXTS}
    assert {"kdcache", *(f"kdcache {name}" for name in COMMANDS)} <= met


@pytest.mark.parametrize("context", CONTEXTS, ids=lambda context: context.command_path)
def test_every_help_ends_with_an_example(context: click.Context) -> None:
    lines = lines_of(context)
    titles = [i for i, line in enumerate(lines) if line.strip() in ("Example:", "Examples:")]
    assert titles, "no example"
    examples = [line.strip() for line in lines[titles[-1] + 1 :]]
    assert examples
    assert all(line.startswith(("kdcache ", "#")) for line in examples)
    assert any(line.startswith(context.command_path) for line in examples)


@pytest.mark.parametrize("context", CONTEXTS, ids=lambda context: context.command_path)
def test_every_command_and_option_is_explained(context: click.Context) -> None:
    command = context.command
    assert command.help
    unexplained = [
        parameter.name
        for parameter in command.params
        if isinstance(parameter, click.Option) and not parameter.help
    ]
    assert unexplained == []


@pytest.mark.parametrize("context", CONTEXTS, ids=lambda context: context.command_path)
def test_every_argument_is_named_in_the_help(context: click.Context) -> None:
    for parameter in context.command.params:
        if isinstance(parameter, click.Argument):
            name = parameter.make_metavar(context).strip("[].")
            assert name in (context.command.help or ""), f"the help does not say what {name} is"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_placeholder_is_of_the_command_of_that_name(name: str) -> None:
    placeholder = main.commands[name]
    assert loaded(placeholder).name == name
    assert placeholder.short_help
    assert placeholder.short_help.endswith(".")
    assert len(placeholder.short_help) <= 60


def test_the_page_is_current(repository: Path) -> None:
    """Up to blanks: the wrapping may differ between versions of click."""
    written = (repository / "docs" / "cli.md").read_text(encoding="utf-8")
    assert written.split() == reference_page().split(), "run `make docs`"
