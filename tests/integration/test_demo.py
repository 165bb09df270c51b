"""The demo from nothing to its table, at a size at which nobody learns anything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest

pytestmark = pytest.mark.ray

TINY = {
    "synthesised.train": 24,
    "synthesised.test": 4,
    "teacher.student.hidden": 16,
    "teacher.student.layers": 1,
    "teacher.optim.steps": 2,
    "student.student.hidden": 8,
    "student.student.layers": 1,
    "student.optim.steps": 2,
    "student.hours": 0.01,
}


class Watch:
    """Looks, while the demo runs, which of Ray's processes live at each of its stages.

    A stage has begun when its YAML is there.
    """

    def __init__(self, mark: str, out: Path) -> None:
        self._mark, self._out = mark.encode(), out
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.seen: set[tuple[str, str]] = set()
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            stage = self._stage()
            self.seen |= {(stage, title) for title in self._titles()}
            time.sleep(0.05)

    def _stage(self) -> str:
        stages = ("cached", "plain", "extract", "teacher")
        return next((s for s in stages if (self._out / f"{s}.yaml").exists()), "corpus")

    def _titles(self) -> list[str]:
        """Titles of the Ray workers that carry the mark in their environment."""
        titles = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                title = (folder / "cmdline").read_bytes()
                if title.startswith(b"ray::") and self._mark in (folder / "environ").read_bytes():
                    titles.append(title.decode(errors="replace").split("\x00")[0])
            except OSError:
                continue  # it ended while we looked
        return titles

    def end(self) -> set[tuple[str, str]]:
        self._stop.set()
        self._thread.join()
        return self.seen


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs Linux's /proc")
def test_the_demo_ends_with_its_table_and_no_teacher_beside_a_student(tmp_path: Path) -> None:
    mark = uuid.uuid4().hex
    overrides = [word for name, value in TINY.items() for word in ("--set", f"{name}={value}")]
    command = [sys.executable, "-m", "kdcache", "demo", "--out", "demo", "--save", "demo.json"]
    watch = Watch(mark, tmp_path / "demo")
    run = subprocess.run(
        [*command, *overrides],
        cwd=tmp_path,
        env=os.environ | {"KDCACHE_TEST_MARK": mark},
        capture_output=True,
        text=True,
        check=False,
    )
    seen = watch.end()
    assert run.returncode == 0, run.stderr

    found = json.loads((tmp_path / "demo.json").read_text(encoding="utf-8"))
    assert found["teacher"]["parameters"] > found["student_plain"]["parameters"] > 0
    assert found["student_plain"]["parameters"] == found["student_cached"]["parameters"]
    assert found["teacher"]["wer"] >= 0
    assert 0 < found["cache"]["mean_kl"] < 1e-3
    assert found["cache"]["bytes_per_hour"] > 0
    assert found["cache"]["layout"] == "zarr"
    assert "student, from cache" in run.stdout
    assert f"{found['teacher']['parameters']:,}" in run.stdout

    extracting = {title for stage, title in seen if stage == "extract"}
    students = {title for stage, title in seen if stage in {"plain", "cached"}}
    assert any("ExtractActor" in title for title in extracting), seen
    assert students, "no worker of a student was seen"
    assert not any("ExtractActor" in title for title in students), seen

    # What is there is not made again: the same command ends at once with the same figures.
    again = subprocess.run(
        [*command, *overrides], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    repeated = json.loads((tmp_path / "demo.json").read_text(encoding="utf-8"))
    assert repeated["cache"] == found["cache"]
    for model in ("teacher", "student_plain", "student_cached"):
        assert repeated[model]["wer"] == found[model]["wer"], again.stderr
