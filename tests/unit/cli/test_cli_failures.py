"""Errors → sentences and exit codes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import click
import pytest

from kdcache import errors
from kdcache.cli.failures import exit_code_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def raising(error: BaseException) -> Callable[[], Any]:
    def action() -> None:
        raise error

    return action


def interrupted_prompt() -> None:
    """What click makes of ^C."""
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt as error:
        raise click.Abort from error


@pytest.mark.parametrize(
    ("value", "code"), [(None, 0), (0, 0), (3, 3), (True, 0), ("text", 0), ([1], 0)]
)
def test_what_a_command_returns(value: object, code: int) -> None:
    assert exit_code_of(lambda: value) == code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.KdcacheError("it broke"), 1),
        (errors.StorageError("it broke"), 1),
        (errors.ConfigError("it broke"), 2),
        (errors.NotACacheError("it broke"), 2),
        (errors.IncompleteCacheError("it broke"), 3),
    ],
)
def test_an_error_of_ours(
    error: errors.KdcacheError, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code_of(raising(error)) == code
    out, err = capsys.readouterr()
    assert (out, err) == ("", "Error: it broke\n")


def test_an_error_of_ours_that_came_through_ray(capsys: pytest.CaptureFixture[str]) -> None:
    class RayTaskError(errors.ConfigError):
        """What Ray makes of ours, as far as it matters here."""

        cause = errors.ConfigError("it broke")

    assert exit_code_of(raising(RayTaskError("ray::task() Traceback …"))) == 2
    assert capsys.readouterr().err == "Error: it broke\n"


def test_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of(raising(click.UsageError("no such option"))) == 2
    assert capsys.readouterr().err == "Error: no such option\n"


@pytest.mark.parametrize("action", [raising(KeyboardInterrupt()), interrupted_prompt])
def test_an_interrupt_is_one_line(
    action: Callable[[], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code_of(action) == 130
    assert capsys.readouterr().err == "Interrupted.\n"


def test_a_no_is_not_an_interrupt(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of(raising(click.Abort())) == 1
    assert capsys.readouterr().err == "Aborted.\n"


def test_a_file_that_the_system_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "missing"
    assert exit_code_of(missing.read_bytes) == 1
    assert capsys.readouterr().err == f"Error: No such file or directory: {missing}\n"


def test_a_full_disk_needs_no_file_name(capsys: pytest.CaptureFixture[str]) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert exit_code_of(raising(full)) == 1
    assert capsys.readouterr().err == "Error: No space left on device.\n"


@pytest.mark.parametrize("error", [OSError("odd"), ZeroDivisionError(), KeyError("x")])
def test_a_defect_keeps_its_traceback(error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        exit_code_of(raising(error))
    assert caught.value is error


def test_a_reader_that_goes_away_is_no_failure() -> None:
    code = (
        "import sys, click\n"
        "from kdcache.cli.failures import exit_code_of\n"
        "def endless():\n"
        "    while True: click.echo('x' * 1000)\n"
        "sys.exit(exit_code_of(endless))\n"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert run.stdout is not None
    assert run.stderr is not None
    run.stdout.read(10)
    run.stdout.close()
    assert run.stderr.read() == b""
    run.stderr.close()
    assert run.wait() == 141


def test_a_reader_that_is_gone_at_the_last_flush() -> None:
    """Little output stays in the buffer until the end."""
    code = (
        "import sys, os, click\n"
        "from kdcache.cli.failures import exit_code_of\n"
        "sys.stdin.read()\n"
        "sys.exit(exit_code_of(lambda: sys.stdout.write('x')))\n"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert run.stdout is not None
    run.stdout.close()
    run.stdout = None
    _, err = run.communicate()
    assert (run.returncode, err) == (141, b"")
