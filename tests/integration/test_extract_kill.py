"""Kill −9 of the driver and all its actors, at several moments: the same command resumes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from kdcache.extract import ExtractConfig
from kdcache.store import open_cache, verify
from tests.unit.extract.extract_fakes import ADAPTER, extract_here, save_corpus, save_fake_teacher

pytestmark = pytest.mark.ray

LENGTHS = [4000 + 100 * i for i in range(40)]
UNITS = 20
PATIENCE = 600.0


@pytest.fixture
def place(tmp_path):
    save_corpus(tmp_path / "wav", LENGTHS)
    save_fake_teacher(tmp_path / "teacher", sleep=0.4)
    return tmp_path


def config(place: Path, name: str) -> ExtractConfig:
    settings = {
        "teacher": {"path": place / "teacher", "adapter": ADAPTER},
        "corpus": place / "wav" / "manifest.jsonl",
        "cache": {"path": str(place / name)},
        "targets": ["lattice"],
        "batch_seconds": 2.0,
        "unit_utterances": 2,
        "actors": 2,
    }
    return ExtractConfig.model_validate(settings)


def command(place: Path) -> list[str]:
    path = place / "extract.yaml"
    path.write_text(json.dumps(config(place, "cache").model_dump(mode="json")))
    return [sys.executable, "-m", "kdcache", "extract", str(path), "--json"]


def commits(place: Path) -> int:
    return len(list((place / "cache" / "commits").glob("*.json")))


def start(place: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(place),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_commits(process: subprocess.Popen[str], place: Path, count: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while commits(place) < count and process.poll() is None:
        assert time.monotonic() < deadline, f"{commits(place)} commits, expected {count}"
        time.sleep(0.01)


def descendants(process: int) -> set[int]:
    """Every process below ``process``, whatever group or session it made for itself."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
    found = {process}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def kill_all(process: subprocess.Popen[str]) -> None:
    """The driver first, so that it sees nothing of its actors' end; then all that it started."""
    family = descendants(process.pid)
    for member in [process.pid, *sorted(family - {process.pid})]:
        try:
            os.kill(member, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.communicate()


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the actors' processes in /proc")
def test_kills_at_several_moments_leave_the_same_content(place):
    moments = random.Random(2024)
    killed_at = []
    for more in (1, 4):
        process = start(place)
        wait_for_commits(process, place, commits(place) + more)
        time.sleep(moments.uniform(0.0, 0.2))
        kill_all(process)
        killed_at.append(commits(place))
    assert 0 < killed_at[0] < UNITS, "the first kill came after the end"
    assert killed_at[0] < killed_at[1], "the second run did nothing"

    before = interrupt(place, commits(place) + 1)
    resumed = finish(place)
    assert resumed["done"] == len(LENGTHS) - before
    assert verify(place / "cache") == []
    assert commits(place) == UNITS
    save_fake_teacher(place / "teacher")  # the same numbers, at once
    undisturbed = extract_here(config(place, "undisturbed"))
    assert resumed["content_digest"] == undisturbed.content_digest()


def interrupt(place: Path, count: int) -> int:
    """SIGINT once there are so many commits: a clean stop. How much is in the cache then."""
    process = start(place)
    wait_for_commits(process, place, count)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    report = json.loads(out)
    assert process.returncode == 130, err
    assert "the same command resumes" in err
    assert "Traceback" not in err
    there = len(open_cache(place / "cache"))
    assert report["done"] > 0
    assert report["done"] + report["skipped"] == there < len(LENGTHS)
    assert len(report["left"]) == len(LENGTHS) - there
    return there


def finish(place: Path) -> dict[str, Any]:
    result = subprocess.run(
        command(place), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert result.returncode == 0, result.stderr
    report: dict[str, Any] = json.loads(result.stdout)
    return report
