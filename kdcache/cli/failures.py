"""Errors → one sentence on stderr and an exit code, in one place for all commands.

What kdcache or the operating system can say in a sentence is said in a sentence. Anything
else is a defect of the program and keeps its traceback.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from typing import TYPE_CHECKING

import click

from kdcache.errors import KdcacheError
from kdcache.signals import Stopped

if TYPE_CHECKING:
    from collections.abc import Callable

INTERRUPTED = 130
"""128 + SIGINT, as a shell reports a command that ^C ended."""

BROKEN_PIPE = 141
"""128 + SIGPIPE, as a shell reports a command whose reader went away."""


def exit_code_of(action: Callable[[], object]) -> int:
    """Run a command; report a failure on stderr.

    Args:
        action: click's own run of the command, which returns an exit code or the command's
            return value (which counts for nothing unless it is an integer).
    """
    try:
        result = action()
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort) as error:
        return _interrupted(error)
    except KdcacheError as error:
        return _told(error)
    except OSError as error:
        return _system_failure(error)
    return result if type(result) is int else 0


def _told(error: KdcacheError) -> int:
    """Ray raises a child of our error whose text is a traceback; ours is its cause."""
    cause = getattr(error, "cause", None)
    told = cause if isinstance(cause, KdcacheError) else error
    click.echo(f"Error: {told.message}", err=True)
    return told.exit_code


def _interrupted(error: BaseException) -> int:
    """click turns ^C into Abort with the interrupt as cause; a plain Abort is a 'no'."""
    cause = error.__cause__ if isinstance(error, click.Abort) else error
    if isinstance(cause, Stopped):
        click.echo(cause.message, err=True)
        return 128 + cause.number
    if isinstance(cause, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        return INTERRUPTED
    click.echo("Aborted.", err=True)
    return 1


def _system_failure(error: OSError) -> int:
    """A broken pipe is no failure of ours; a named file or a full disk makes a sentence."""
    if error.errno == errno.EPIPE:
        return reader_gone()
    if error.strerror and error.filename:
        click.echo(f"Error: {error.strerror}: {os.fsdecode(error.filename)}", err=True)
        return 1
    if error.errno == errno.ENOSPC:
        click.echo(f"Error: {error.strerror}.", err=True)
        return 1
    raise error


def reader_gone() -> int:
    """The exit code where nobody reads stdout any more; the interpreter's last flush is silent."""
    with contextlib.suppress(OSError, ValueError):
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, sys.stdout.fileno())
        os.close(sink)
    return BROKEN_PIPE
