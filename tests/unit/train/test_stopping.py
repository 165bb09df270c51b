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
from kdcache.train.stopping import LOOK, Told, training_file, workers_told
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


class TestTold:
    def test_it_is_told_when_the_file_is_gone(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = [100.0]
        monkeypatch.setattr(time, "monotonic", lambda: now[0])
        file = training_file(tmp_path, "launch")
        told = Told(file)
        assert not told()
        assert file.exists(), "somebody trains"
        file.unlink()
        assert not told(), "it has just been looked up"
        now[0] += LOOK
        assert told()

    def test_another_launch_is_not_told(self, tmp_path: Path) -> None:
        now, before = (Told(training_file(tmp_path, name)) for name in ("now", "before"))
        assert not before()
        assert not now()
        training_file(tmp_path, "before").unlink()
        now._looked -= LOOK
        assert not now()

    def test_a_directory_that_cannot_be_read_tells_nothing(self, tmp_path: Path) -> None:
        out = tmp_path / "out"
        told = Told(training_file(out, "launch"))
        assert not told()
        out.mkdir()
        assert not told()
        assert list(out.iterdir()), "written as soon as it can be"
        out.rename(tmp_path / "gone")
        told._looked -= LOOK
        assert not told()


class Waiting:
    """Stands for a wait for workers that ends when they do, or when they are given up."""

    def __init__(self) -> None:
        self.over, self.given_up = threading.Event(), 0

    def give_up(self) -> None:
        self.given_up += 1
        if self.given_up == 2:  # the first time there was nobody yet
            self.over.set()


class TestWorkersTold:
    def test_without_a_signal_nothing_happens(self, tmp_path: Path) -> None:
        file, waiting = tmp_path / "file", Waiting()
        file.touch()
        with workers_told(lambda: None, file, waiting.give_up):
            time.sleep(0.5)
        assert file.exists()
        assert not waiting.given_up

    def test_no_thread_outlives_what_goes_wrong(self, tmp_path: Path) -> None:
        seen: list[int] = []

        def fail() -> None:
            with workers_told(lambda: None, tmp_path / "file", lambda: None):
                seen.append(threading.active_count())
                raise ValueError("a worker's")

        with pytest.raises(ValueError, match="a worker's"):
            fail()
        assert threading.active_count() == seen[0] - 1

    def test_a_signal_deletes_the_file_and_the_work_ends(self, tmp_path: Path) -> None:
        file, waiting = tmp_path / "file", Waiting()
        file.touch()
        with stop_signals() as stopped, workers_told(stopped, file, waiting.give_up):
            os.kill(os.getpid(), signal.SIGTERM)
            while file.exists():
                time.sleep(0.01)
            file.touch()  # workers that Ray started again: they are told as well
            while file.exists():
                time.sleep(0.01)
        assert not waiting.given_up

    def test_where_nobody_trains_nobody_is_waited_for(self, tmp_path: Path) -> None:
        waiting = Waiting()
        with workers_told(lambda: signal.SIGTERM, tmp_path / "file", waiting.give_up):
            assert waiting.over.wait(60.0)

    def test_workers_that_hang_are_not_waited_for_for_ever(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("kdcache.train.stopping.PATIENCE", 0.3)
        file, waiting = tmp_path / "file", Waiting()
        file.touch()
        with workers_told(lambda: signal.SIGTERM, file, waiting.give_up):
            assert waiting.over.wait(60.0)
        assert not file.exists()
