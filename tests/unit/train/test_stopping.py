"""A run in this process that a signal stops, and how workers elsewhere are told."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from kdcache.signals import Stopped, stop_signals
from kdcache.train import TrainSettings, run_training
from kdcache.train.checkpoint import list_checkpoints
from kdcache.train.stopping import WishToStop, run_until_told, stop_file
from tests.unit.train.test_loop import settings_of

if TYPE_CHECKING:
    from pathlib import Path


def longer(tones: Path, out: Path) -> TrainSettings:
    optim = {"steps": 2000, "warmup": 2}
    return settings_of(tones, out, optim=optim, checkpoint_every=1000, batch_seconds=1.0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_the_step_that_is_done(
    tones: Path, tmp_path: Path, number: signal.Signals
) -> None:
    settings = longer(tones, tmp_path)

    def watch(_: dict[str, Any]) -> None:
        if not told:
            told.append(number)
            os.kill(os.getpid(), number)

    told: list[int] = []
    with pytest.raises(Stopped) as caught:
        run_training(settings, watch, here=True)
    (checkpoint,) = list_checkpoints(tmp_path)
    assert 0 < checkpoint.step < 2000
    assert caught.value.number == number
    assert caught.value.message == (
        f"Stopped after step {checkpoint.step} of 2000, which {tmp_path} holds; the same command "
        "goes on."
    )


class TestWishToStop:
    def test_it_is_there_once_the_file_is(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = [100.0]
        monkeypatch.setattr(time, "monotonic", lambda: now[0])
        path = stop_file(tmp_path, "launch")
        wish = WishToStop(path)
        assert not wish()
        path.touch()
        assert not wish(), "it has just been looked up"
        now[0] += 1.0
        assert wish()

    def test_another_launch_is_not_told(self, tmp_path: Path) -> None:
        stop_file(tmp_path, "before").touch()
        assert not WishToStop(stop_file(tmp_path, "now"))()


class TestRunUntilTold:
    def test_what_goes_wrong_comes_out(self, tmp_path: Path) -> None:
        def work() -> None:
            raise ValueError(threading.current_thread().name)

        with pytest.raises(ValueError, match="kdcache-train"):
            run_until_told(work, lambda: None, tmp_path / "stop")

    def test_a_signal_writes_the_file_and_the_work_ends(self, tmp_path: Path) -> None:
        path = tmp_path / "stop"

        def work() -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            while not path.exists():
                time.sleep(0.01)

        with stop_signals() as stopped:
            run_until_told(work, stopped, path)
            assert stopped() == signal.SIGTERM
