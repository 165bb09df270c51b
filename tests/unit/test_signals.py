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
            for each in (signal.SIGINT, signal.SIGTERM):
                assert signal.getsignal(each) == signal.SIG_DFL, "a second one ends the program"
        assert signal.getsignal(number) == before

    def test_what_is_ignored_stays_ignored(self) -> None:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            with stop_signals() as stopped:
                os.kill(os.getpid(), signal.SIGINT)
                assert stopped() is None
            assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
        finally:
            signal.signal(signal.SIGINT, before)

    def test_it_says_what_comes_next(self, capfd: pytest.CaptureFixture[str]) -> None:
        with stop_signals("Stopping."):
            os.kill(os.getpid(), signal.SIGTERM)
        assert capfd.readouterr().err == "\nStopping.\n"

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
import os, signal, threading
import click
from kdcache.cli.main import main
from kdcache.session import ray_session

def terminate():
    os.kill(os.getpid(), signal.SIGTERM)

@main.command()
@click.option("--when", type=click.Choice(["without", "starting", "during", "after"]))
def wait(when):
    if when == "starting":
        threading.Timer(1.0, terminate).start()
    if when != "without":
        with ray_session(None, {"num_cpus": 1, "object_store_memory": 100 * 2**20}):
            if when == "during":
                terminate()
    terminate()

main()
"""


@pytest.mark.parametrize(
    "when",
    ["without", *(pytest.param(w, marks=pytest.mark.ray) for w in ("starting", "during", "after"))],
)
def test_a_command_that_is_terminated_says_so_in_a_word(when: str) -> None:
    """Ray has handlers of its own, which print a trace of the stack, or nothing."""
    command = [sys.executable, "-c", TERMINATED, "wait", "--when", when]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 128 + signal.SIGTERM
    assert result.stdout == ""
    assert result.stderr.strip() == "Terminated."
