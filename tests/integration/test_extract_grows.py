"""A run whose cluster grows and shrinks under it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from cluster.local import local_cluster
from kdcache.extract import ExtractConfig
from kdcache.inspect.runs import read_events
from kdcache.store import open_cache
from tests.unit.extract.extract_fakes import ADAPTER, extract_here, save_corpus, save_fake_teacher

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


pytestmark = [pytest.mark.ray, pytest.mark.slow]

PATIENCE = 240.0


def save_config(place: Path, utterances: int, sleep: float, **changes: Any) -> Path:
    save_corpus(place / "wav", [4000 + 100 * i for i in range(utterances)])
    save_fake_teacher(place / "teacher", sleep=sleep)
    config = {
        "teacher": {"path": str(place / "teacher"), "adapter": ADAPTER, "device": "cpu"},
        "corpus": str(place / "wav" / "manifest.jsonl"),
        "cache": {"path": str(place / "cache")},
        "targets": ["lattice"],
        "unit_utterances": 2,
        "events": str(place / "events.jsonl"),
        **changes,
    }
    (place / "extract.yaml").write_text(json.dumps(config))
    return place / "extract.yaml"


def digest_of_an_undisturbed_run(file: Path) -> str:
    config = json.loads(file.read_text())
    config["cache"] = {"path": str(file.parent / "undisturbed")}
    return extract_here(ExtractConfig.model_validate(config)).content_digest()


def start(file: Path, environment: dict[str, str], *overrides: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "kdcache", "extract", str(file)]
    settings = [f"--set={override}" for override in overrides]
    pipe = subprocess.PIPE
    return subprocess.Popen([*command, *settings], env=environment, stderr=pipe, text=True)


def wait_for(met: Callable[[], bool], run: subprocess.Popen[str], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not met():
        assert run.poll() is None, f"the run was over before {what}"
        assert time.monotonic() < deadline, f"no {what}"
        time.sleep(0.1)


def actors(place: Path) -> list[int]:
    """How many lived after each change."""
    file = place / "events.jsonl"
    events = read_events(file) if file.exists() else iter(())
    return [event["actors"] for event in events if event["event"].startswith("actor_")]


def test_actors_come_with_a_node_and_go_with_it(tmp_path: Path) -> None:
    file = save_config(tmp_path, utterances=200, sleep=0.4)
    with local_cluster(nodes=1) as cluster:
        run = start(file, cluster.environment, "ray.address=auto")
        wait_for(lambda: actors(tmp_path) == [1], run, "first actor")
        cluster.add_node(cpus=1)
        wait_for(lambda: actors(tmp_path) == [1, 2], run, "actor on the new node")
        cluster.lose_node()
        wait_for(lambda: actors(tmp_path)[:3] == [1, 2, 1], run, "loss")
        _, told = run.communicate(timeout=PATIENCE)
    assert run.returncode == 0, told
    assert open_cache(tmp_path / "cache").content_digest() == digest_of_an_undisturbed_run(file)
