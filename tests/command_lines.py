"""Commands that pages, scripts and manifests name: found, and parsed without being run."""

from __future__ import annotations

import re
import shlex

import click

from kdcache.cli.lazy import loaded
from kdcache.cli.main import main


def check_command(words: list[str]) -> None:
    """Parse ``kdcache …`` as the command line would, without running it."""
    assert words[0] == "kdcache"
    command: click.Command = main
    context = click.Context(main, info_name="kdcache", **main.context_settings)
    rest = words[1:]
    while isinstance(command, click.Group):
        _, found, rest = command.resolve_command(context, rest)
        assert found is not None
        command = loaded(found)
        context = click.Context(command, context, command.name)
    command.make_context(command.name, list(rest), context.parent)


def commands_in(text: str) -> list[list[str]]:
    """Every ``kdcache …`` that a shell would run, with continued lines joined.

    Of a page in Markdown, those of its shell blocks.
    """
    if text.startswith("# "):
        text = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))
    lines = text.replace("\\\n", " ").splitlines()
    found = (re.search(r"(?:^|\s|-- )(kdcache [a-z].*)", line) for line in lines)
    return [
        [word for word in shlex.split(match[1], comments=True) if word != "&"]
        for match in found
        if match and not match.string.lstrip().startswith("#")
    ]
