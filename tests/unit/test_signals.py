"""Signals that end a run, in good order or at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from kdcache.signals import Stopped, handlers_kept, stop_signals, termination_as_interrupt


class TestStopSignals:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_the_first_is_noted_and_handlers_come_back(self, number: signal.Signals) -> None:
        before = signal.getsignal(number)
        with stop_signals() as stopped:
            assert stopped() is None
            os.kill(os.getpid(), number)
            assert stopped() == number
            assert signal.getsignal(number) == signal.SIG_DFL, "a second one ends the program"
        assert signal.getsignal(number) == before

    def test_other_threads_hear_nothing(self) -> None:
        heard = []

        def listen() -> None:
            with stop_signals() as stopped:
                heard.append(stopped())

        thread = threading.Thread(target=listen)
        thread.start()
        thread.join()
        assert heard == [None]


class TestTermination:
    def test_it_is_an_interrupt_that_nobody_takes_for_an_error(self) -> None:
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        with pytest.raises(Stopped, match="Terminated") as caught, termination_as_interrupt():
            os.kill(os.getpid(), signal.SIGTERM)
        assert (caught.value.number, caught.value.message) == (signal.SIGTERM, "Terminated.")
        assert not isinstance(caught.value, Exception)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL

    def test_a_handler_that_is_there_stays(self) -> None:
        heard: list[int] = []
        before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
        try:
            with termination_as_interrupt():
                os.kill(os.getpid(), signal.SIGTERM)
        finally:
            signal.signal(signal.SIGTERM, before)
        assert heard == [signal.SIGTERM]

    def test_handlers_are_kept(self) -> None:
        before = signal.getsignal(signal.SIGTERM)
        with handlers_kept():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        assert signal.getsignal(signal.SIGTERM) == before


TERMINATED = """
import os, signal, sys
import click
from kdcache.cli.main import main
from kdcache.session import ray_session

@main.command()
@click.option("--ray", is_flag=True)
def wait(ray):
    if ray:
        with ray_session(None, {"num_cpus": 1, "object_store_memory": 100 * 2**20}):
            os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)

main()
"""


@pytest.mark.parametrize("how", [[], pytest.param(["--ray"], marks=pytest.mark.ray)])
def test_a_command_that_is_terminated_says_so_in_a_word(how: list[str]) -> None:
    """Ray, which would print a trace of the stack, is joined or not."""
    command = [sys.executable, "-c", TERMINATED, "wait", *how]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 128 + signal.SIGTERM
    assert result.stdout == ""
    assert result.stderr.strip() == "Terminated."
