"""The reference page of the command line, made from the commands' own help.

``python -m kdcache.cli.reference > docs/cli.md`` writes it; a test keeps it current.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kdcache.cli.lazy import loaded
from kdcache.cli.main import main

if TYPE_CHECKING:
    from collections.abc import Iterator

WIDTH = 92
HEAD = """# The command line

Made from the commands' own help by `make docs`; a test keeps it current. Data goes to stdout,
progress and messages to stderr.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | failed |
| 2 | bad usage or input; nothing was changed |
| 3 | the cache is incomplete: some utterances of the corpus are not in it |
| 130 | interrupted by ^C |
| 141 | nobody reads the output any more, as of `kdcache ls CACHE \\| head` |

On a terminal no line is wider than it. `NO_COLOR` turns the colours of progress bars off; where
stderr is no terminal there are no bars.

## Completion in a shell

Commands and options are completed with the tab key after one of these lines, in `~/.bashrc`,
`~/.zshrc` or `~/.config/fish/completions/kdcache.fish`:

```sh
eval "$(_KDCACHE_COMPLETE=bash_source kdcache)"    # bash 4.4 or newer
eval "$(_KDCACHE_COMPLETE=zsh_source kdcache)"     # zsh
_KDCACHE_COMPLETE=fish_source kdcache | source     # fish
```
"""


def walk(context: click.Context | None = None) -> Iterator[click.Context]:
    """A context for the root and for every command below it, in the order of the help."""
    context = context or click.Context(
        main, info_name="kdcache", terminal_width=WIDTH, **main.context_settings
    )
    yield context
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            command = context.command.get_command(context, name)
            if command and not command.hidden:
                yield from walk(click.Context(loaded(command), context, name))


def reference_page() -> str:
    """The page, in Markdown."""
    sections = [
        f"## {context.command_path}\n\n```text\n{context.get_help().rstrip()}\n```\n"
        for context in walk()
    ]
    return "\n".join([HEAD, *sections])


if __name__ == "__main__":
    click.echo(reference_page(), nl=False)
