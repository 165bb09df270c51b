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


def test_as_many_run_at_once_as_were_asked_for(fake: Pipeline) -> None:
    acting(fake, "meet", others=4)
    fake.run(at_once=4)
    assert len(list((fake.out / "meeting").iterdir())) == 4


def test_each_has_its_share_of_the_threads(fake: Pipeline) -> None:
    acting(fake, "threads")
    fake.run(at_once=2)
    told = {path.read_text() for path in fake.out.glob("threads-*")}
    assert told == {str(max((os.cpu_count() or 1) // 2, 1))}


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


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_no_stage_outlives_its_run(fake: Pipeline, how: signal.Signals) -> None:
    acting(fake, "linger")
    command = [sys.executable, "-m", "kdcache", "pipeline", "run", "fake", "--jobs", "2"]
    command += ["--recipes", str(fake.recipes), "--out", str(fake.out)]
    run = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    mark = fake.out / "lingers"
    wait_until(lambda: mark.is_file() and mark.read_text() != "")
    run.send_signal(how)
    run.wait(60)
    wait_until(lambda: not alive(int(mark.read_text())))


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
