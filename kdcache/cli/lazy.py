"""A click group whose sub-commands are imported when they are called.

``kdcache --help`` lists every command, and must not pay for torch, Ray or pyarrow to do so.
A command stands in the group as a placeholder that knows its name and its short help.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Mapping


class LazyCommand(click.Command):
    """A placeholder.

    Attributes:
        target: ``module:attribute`` of the real command.
    """

    def __init__(self, name: str, target: str, short_help: str) -> None:
        super().__init__(name, short_help=short_help)
        self.target = target

    def load(self) -> click.Command:
        """The real command."""
        module, _, attribute = self.target.partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command), f"{self.target} is not a click command"
        return command


class LazyGroup(click.Group):
    """A group made of placeholders.

    Args:
        lazy: name → (``module:attribute``, short help), in the order of the help page.
    """

    def __init__(self, *args: Any, lazy: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, (target, short_help) in lazy.items():
            self.add_command(LazyCommand(name, target, short_help))

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order in which they were given: that of the work."""
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Import the command that is called, or suggest the nearest name."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, loaded(command) if command else None, rest


def loaded(command: click.Command) -> click.Command:
    """The real command where ``command`` is a placeholder, else ``command``."""
    return command.load() if isinstance(command, LazyCommand) else command
