"""A Ray connection for as long as a block runs: the one there is, a cluster's, or a new one.

What is started here is for this machine and this run alone: no dashboard, little shared
memory, shut down at the end.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kdcache.errors import ConfigError, KdcacheError
from kdcache.signals import Stopped, handlers_kept

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PATIENCE = 5.0
"""Seconds for a cluster's head to answer."""

_STARTS = 4
"""Attempts to start a cluster here."""

_QUIET = {"log_to_driver": False, "logging_level": logging.ERROR}


@contextmanager
def ray_session(address: str | None, local: Mapping[str, Any]) -> Iterator[None]:
    """Ray, for as long as the block runs; what was started here is shut down after it.

    Args:
        address: of a running cluster, such as ``auto``; ``None`` starts one on this machine,
            unless this process is connected already.
        local: settings of ``ray.init`` for a cluster that is started here.

    Raises:
        ConfigError: there is no cluster at the address.
        KdcacheError: Ray cannot be started on this machine.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray would tell of each worker's death on stdout, where data goes; deaths reach us as errors.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    # Ray's later behaviour, chosen now: it does not hide GPUs from actors that asked for none.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        yield
        return
    # Ray has handlers of its own: while it starts, SIGTERM is an exit; then the process ends with a
    # trace of the stack, and after Ray's end without a word.
    try:
        with handlers_kept():
            if address is None:
                _start_here(local)
            else:
                _join(address)
    except SystemExit as end:
        _shut_down()
        raise Stopped(signal.SIGTERM, "Terminated.") from end
    try:
        yield
    finally:
        _shut_down()


def _shut_down() -> None:
    import ray

    with handlers_kept():
        ray.shutdown()


def refuse_unreachable(address: str) -> None:
    """Knock at ``host:port``: Ray itself would wait for minutes where nobody is at home.

    Raises:
        ConfigError: nobody answers.
    """
    host, _, port = address.rpartition("://")[2].partition("/")[0].rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(address, error) from error


def _start_here(settings: Mapping[str, Any]) -> None:
    """A cluster on this machine. Ray gives up after half a minute where the machine is busy,
    so it gets more than one chance."""
    # Nodes of a busy machine miss heartbeats; there is but one, and it is this one.
    os.environ.setdefault("RAY_health_check_failure_threshold", "40")
    import ray

    for attempt in range(_STARTS):
        try:
            ray.init(address="local", include_dashboard=False, **settings, **_QUIET)
        except Exception as error:  # Ray raises many kinds; each means "not started"
            ray.shutdown()
            if attempt + 1 == _STARTS:
                raise KdcacheError(
                    f"Ray could not be started on this machine ({_line(error)}). Often the machine "
                    "is overloaded or short of memory; the same command tries again."
                ) from error
        else:
            return


def _join(address: str) -> None:
    import ray

    refuse_unreachable(address)
    try:
        ray.init(address=address, **_QUIET)
    except (ConnectionError, ImportError, ValueError) as error:
        raise _unreachable(address, error) from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200].rstrip(".")


def _unreachable(address: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"No Ray cluster could be reached at {address!r} ({_line(error)}). Start one with "
        "`ray start --head`, or leave out ray.address to run on this machine."
    )
