"""Options and output that the commands share."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

from kdcache.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_CANNOT_WRITE = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR,
    errno.EEXIST, errno.ENAMETOOLONG,
}  # fmt: skip
"""What is wrong with the place that was named, not with the machine."""

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


def where_option(command: CommandT) -> CommandT:
    """``--where CONDITION``, as the argument ``where``."""
    return click.option(
        "--where",
        metavar="CONDITION",
        help="Only utterances of which this is true, such as 'duration > 20 and kl > 0.01'.",
    )(command)


def echo_json(data: Any) -> None:
    """Print ``data`` on stdout. JSON has no NaN or infinity: these become null."""
    click.echo(json.dumps(_finite(data), indent=2, ensure_ascii=False, allow_nan=False))


def echo_lines(lines: Iterable[str]) -> None:
    """Print lines on stdout; on a terminal none is wider than it."""
    from kdcache.inspect.text import folded

    if sys.stdout.isatty():
        lines = folded(lines, shutil.get_terminal_size().columns)
    for line in lines:
        click.echo(line)


def echo_json_line(data: Any) -> None:
    """Print ``data`` on one line of stdout, as of JSON lines; see :func:`echo_json`."""
    click.echo(json_line(data), nl=False)


def json_line(data: Any) -> str:
    """``data`` on one line, which it ends; what JSON has no number for is null."""
    return json.dumps(_finite(data), ensure_ascii=False, allow_nan=False) + "\n"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Tell in one sentence that a file or folder cannot be written.

    Raises:
        InputError: it cannot.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _CANNOT_WRITE:
            raise
        why = error.strerror or str(error)
        raise InputError(f"cannot write {path}: {why}; name a place that can be written.") from None


def check_place(path: Path) -> None:
    """Find out that a file cannot be written before the work for it is done.

    Raises:
        InputError: it cannot, or it is a folder.
    """
    with writing(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not _is_special(path):
            partial = _partial(path)
            partial.touch()
            partial.unlink()


@contextmanager
def sink(path: Path | None) -> Iterator[IO[bytes]]:
    """A file that appears at once or not at all, or stdout where there is no path.

    Raises:
        InputError: it cannot be written, or stdout is a terminal.
    """
    if path is None:
        if sys.stdout.isatty():
            raise InputError("binary data would spoil the terminal: give --out FILE, or a pipe.")
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    check_place(path)
    with writing(path):
        if _is_special(path):
            with path.open("wb") as file:
                yield file
            return
        partial = _partial(path)
        try:
            with partial.open("wb") as file:
                yield file
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def say(message: str) -> None:
    """A message for people, on stderr."""
    click.echo(message, err=True)


def _is_special(path: Path) -> bool:
    """A pipe or a device, such as /dev/stdout: written to, and never replaced by a file."""
    return path.exists() and not path.is_file()


def _partial(path: Path) -> Path:
    """Beside a file, where it lies until it is whole."""
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
