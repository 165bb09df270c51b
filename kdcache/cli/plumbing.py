"""Options and output that the commands share."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable

CommandT = TypeVar("CommandT", bound="Callable[..., Any]")


def example(*lines: str) -> str:
    """The epilog of a command's help: what to type. Every command has one.

    Give it as ``epilog=example("kdcache status runs/cache")``.
    """
    title = "Example:" if len(lines) == 1 else "Examples:"
    return "\b\n" + "\n".join([title, *(f"  {line}" for line in lines)])


def json_option(command: CommandT) -> CommandT:
    """``--json``, as the argument ``as_json``."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print JSON on stdout, for other programs."
    )(command)


def set_option(command: CommandT) -> CommandT:
    """``--set a.b=c``, many times, as the argument ``overrides``."""
    return click.option(
        "--set",
        "overrides",
        metavar="NAME=VALUE",
        multiple=True,
        help="Override a setting of CONFIG, such as --set a.b=3. May be given many times.",
    )(command)


def config_argument(command: CommandT) -> CommandT:
    """``CONFIG``, as the argument ``config`` (a path); that it can be read is checked later."""
    return click.argument("config", metavar="CONFIG", type=click.Path(path_type=Path))(command)


def cache_argument(command: CommandT) -> CommandT:
    """``CACHE``, as the argument ``cache``: a folder or a URL."""
    return click.argument("cache", metavar="CACHE")(command)


def echo_json(data: Any) -> None:
    """Print ``data`` on stdout. JSON has no NaN or infinity: these become null."""
    click.echo(json.dumps(_finite(data), indent=2, ensure_ascii=False, allow_nan=False))


def say(message: str) -> None:
    """A message for people, on stderr."""
    click.echo(message, err=True)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
