"""Several stages at once: the same results, and nothing outlives its run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from kdcache.errors import ConfigError, KdcacheError
from kdcache.pipeline import run_plan
from kdcache.pipeline.record import read_record
from kdcache.pipeline.run import Numbered
from kdcache.pipeline.side_by_side import _SideBySide
from tests.unit.pipeline.conftest import RECIPE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.unit.pipeline.conftest import Pipeline

ACT = "tests.unit.pipeline.fake_kinds:Act"


def acting(fake: Pipeline, act: str, **settings: Any) -> None:
    """Four stages ``each`` that do something."""
    each = RECIPE["stages"]["each"]
    told = {**each["settings"], "act": act, **settings}
    fake.write(
        {**RECIPE, "stages": {**RECIPE["stages"], "each": {**each, "kind": ACT, "settings": told}}}
    )


def test_the_results_are_the_same(fake: Pipeline, tmp_path: Path) -> None:
    in_turn = fake.run()
    one, fake.out = fake.out, tmp_path / "other"
    assert fake.run(at_once=3) == in_turn
    assert sorted(fake.began()) == sorted(in_turn)
    for job in in_turn:
        record, same = read_record(fake.out / job), read_record(one / job)
        assert record is not None
        assert same is not None
        assert (record.fingerprint, record.outputs) == (same.fingerprint, same.outputs)
    assert fake.run(at_once=3) == []


def test_nothing_begins_before_what_it_reads(fake: Pipeline) -> None:
    fake.run(at_once=4)
    began = fake.began()
    for job in fake.plan().jobs:
        assert all(began.index(need) < began.index(job.name) for need in job.needs)


@pytest.mark.parametrize("at_once", [2, 4])
def test_as_many_run_at_once_as_were_asked_for(fake: Pipeline, at_once: int) -> None:
    acting(fake, "meet", others=at_once)
    fake.run(at_once=at_once)
    assert max(map(int, (fake.out / "met").read_text().split())) == at_once


def test_each_has_its_share_of_the_threads(fake: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    acting(fake, "threads")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    fake.run(at_once=2)
    told = {path.read_text() for path in fake.out.glob("threads-*")}
    assert told == {"3"}


def test_progress_is_told(fake: Pipeline) -> None:
    acting(fake, "show")
    lines: list[tuple[Any, ...]] = []

    class Display:
        def __init__(self, label: str) -> None:
            self.label = label

        def update(self, done: float, total: float | None = None, note: str = "") -> None:
            lines.append((self.label, done, note))

    @contextmanager
    def show(label: str, total: float | None = None, unit: str = "") -> Iterator[Display]:
        lines.append((label, total, unit))
        yield Display(label)
        lines.append((label, "closed"))

    run_plan(fake.plan(), show, fake.said.append, at_once=2)
    label = "Showing each/b/1"
    assert [line[1:] for line in lines if line[0] == label] == [
        (2, "steps"), (1, ""), (2, "done"), ("closed",)
    ]  # fmt: skip


def test_a_users_mistake_stays_a_sentence(fake: Pipeline) -> None:
    acting(fake, "refuse")
    with pytest.raises(ConfigError, match=r"each/a/\d is refused\."):
        fake.run(at_once=2)
    assert read_record(fake.out / "first").state == "done"  # type: ignore[union-attr]
    acting(fake, "")
    assert "first" not in fake.run(at_once=2)


def test_a_defect_keeps_its_traceback(fake: Pipeline) -> None:
    acting(fake, "fail")
    with pytest.raises(RuntimeError, match="each/a/. has failed") as caught:
        fake.run(at_once=2)
    assert "in run\n" in caught.value.__notes__[0]
    assert "has a defect" in caught.value.__notes__[0]


def test_a_process_that_is_killed_is_named(fake: Pipeline) -> None:
    acting(fake, "die")
    with pytest.raises(KdcacheError, match=r"stage each/a/. was killed by signal 9\. .*--jobs"):
        fake.run(at_once=2)
    acting(fake, "")
    assert fake.run(at_once=2)[-1] == "last"


def test_a_full_disk_stays_a_sentence(fake: Pipeline) -> None:
    acting(fake, "full")
    with pytest.raises(OSError, match="No space left on device") as caught:
        fake.run(at_once=2)
    assert caught.value.filename == "disk.bin"


def test_an_error_that_cannot_travel_is_told_as_text(fake: Pipeline) -> None:
    acting(fake, "lock")
    with pytest.raises(RuntimeError, match="each/a/. has failed") as caught:
        fake.run(at_once=2)
    assert "OddError: odd" in caught.value.__notes__[0]


class Rays:
    """A runner of four stages, two of which want a Ray."""

    def __init__(self, jobs: list[Any]) -> None:
        self.jobs = jobs

    def is_ready(self, job: Any) -> bool:
        return True

    def wants_ray(self, job: Any) -> bool:
        return job.name.endswith("0")


def test_stages_under_ray_wait_for_each_other(fake: Pipeline) -> None:
    jobs = [Numbered(job, "", False) for job in fake.plan().jobs if job.stage == "each"]
    side = _SideBySide(Rays(jobs), jobs, 4)  # type: ignore[arg-type]
    names = [job.job.name for job in jobs]
    assert names == ["each/a/0", "each/a/1", "each/b/0", "each/b/1"]
    assert all(side._can_begin(one) for one in jobs)
    side._running["pipe"] = jobs[0], None  # type: ignore[assignment]
    assert [side._can_begin(one) for one in jobs[1:]] == [True, False, True]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_no_stage_outlives_its_run(fake: Pipeline, how: signal.Signals) -> None:
    """Nor does what a stage has begun; ^C reaches the whole group of the terminal."""
    acting(fake, "linger")
    run, pids = lingering(fake)
    if how == signal.SIGKILL:
        run.kill()
        run.wait(60)
    else:
        assert ended(run, how) == (128 + how, WORDS[how])
    wait_until(lambda: not any(alive(pid) for pid in pids))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_training_keeps_its_step_when_the_run_is_stopped(
    fake: Pipeline, how: signal.Signals
) -> None:
    acting(fake, "keep")
    run, pids = lingering(fake)
    assert ended(run, how) == (128 + how, WORDS[how])
    assert len(list(fake.out.glob("kept-*"))) == 2
    wait_until(lambda: not any(alive(pid) for pid in pids))


WORDS = {signal.SIGINT: "Interrupted.", signal.SIGTERM: "Terminated."}


def lingering(fake: Pipeline) -> tuple[subprocess.Popen[str], list[int]]:
    """A run two of whose stages are under way and will not end; the processes of these."""
    command = [sys.executable, "-m", "kdcache", "pipeline", "run", "fake", "--jobs", "2"]
    command += ["--recipes", str(fake.recipes), "--out", str(fake.out)]
    run = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_until(lambda: len(list(fake.out.glob("lingers-*"))) == 2)
    pids = [int(pid) for mark in fake.out.glob("lingers-*") for pid in mark.read_text().split()]
    assert all(alive(pid) for pid in pids)
    return run, pids


def ended(run: subprocess.Popen[str], how: signal.Signals) -> tuple[int, str]:
    """Its exit code and last word after a signal to all of its group."""
    os.killpg(run.pid, how)
    _, said = run.communicate(timeout=60)
    assert "Traceback" not in said
    return run.returncode, said.splitlines()[-1]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(condition: Any) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
