"""Ray nodes on this machine: jobs that are submitted, and a node that is lost."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from cluster.local import local_cluster
from kdcache.extract import ExtractConfig
from kdcache.store import open_cache, verify
from kdcache.store.commits import committed_units
from kdcache.store.places import open_storage
from kdcache.train.checkpoint import list_checkpoints
from kdcache.train.metrics import read_metrics
from kdcache.train.settings import OptimSettings
from tests.integration.test_train_faults import settings_of
from tests.s3_server import BUCKET, s3_server
from tests.s3_ways import open_way, url_of
from tests.soak.faulty_s3 import FaultyWay
from tests.unit.extract.extract_fakes import ADAPTER, extract_here, save_corpus, save_fake_teacher

if TYPE_CHECKING:
    from pathlib import Path

    from cluster.local import LocalCluster

pytestmark = pytest.mark.ray

PATIENCE = 300.0


def save_config(place: Path, utterances: int, sleep: float, **settings: Any) -> Path:
    """A folder to submit, with the configuration of an extraction beside it."""
    save_corpus(place / "wav", [4000 + 100 * i for i in range(utterances)])
    save_fake_teacher(place / "teacher", sleep=sleep)
    config = {
        "teacher": {"path": str(place / "teacher"), "adapter": ADAPTER},
        "corpus": str(place / "wav" / "manifest.jsonl"),
        "cache": {"path": str(place / "cache")},
        "targets": ["lattice"],
        "unit_utterances": 2,
        **settings,
    }
    folder = place / "job"
    folder.mkdir()
    (folder / "extract.yaml").write_text(json.dumps(config))
    return folder


def digest_of_an_undisturbed_run(folder: Path) -> str:
    config = json.loads((folder / "extract.yaml").read_text())
    config["cache"] = {"path": str(folder.parent / "undisturbed")}
    extract_here(ExtractConfig.model_validate(config))
    return open_cache(config["cache"]["path"]).content_digest()


def documented(repository: Path, command: str) -> list[str]:
    """The submission of ``command`` on the page about clusters, as words."""
    page = (repository / "cluster" / "README.md").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in page.splitlines() if line.startswith("ray job submit")]
    (found,) = {line for line in lines if command in line}
    return shlex.split(found)


def run(cluster: LocalCluster, command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env=cluster.environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_the_documented_job_is_taken_and_done(repository: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray.dashboard.optional_deps", reason="needs kdcache[cluster]")
    folder = save_config(tmp_path, utterances=6, sleep=0.0)
    command = documented(repository, "kdcache extract")
    command[command.index("--working-dir") + 1] = str(folder)
    with local_cluster(nodes=0, jobs=True) as cluster:
        done = run(cluster, command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Job '\w+' succeeded", done.stdout + done.stderr)
    assert open_cache(tmp_path / "cache").content_digest() == digest_of_an_undisturbed_run(folder)


@pytest.mark.slow
def test_a_training_that_is_stopped_as_documented_keeps_its_step(
    repository: Path, tones: Path, tmp_path: Path
) -> None:
    """Ray's own patience with a job that it stops, three seconds, would not do."""
    pytest.importorskip("ray.dashboard.optional_deps", reason="needs kdcache[cluster]")
    settings = settings_of(tones, tmp_path / "run", checkpoint_every=1000)
    settings = settings.model_copy(update={"optim": OptimSettings(steps=5000)})
    folder = tmp_path / "job"
    folder.mkdir()
    (folder / "train.yaml").write_text(json.dumps(settings.model_dump(mode="json")))
    command = documented(repository, "kdcache train")
    command[command.index("--working-dir") + 1] = str(folder)
    command[3:3] = ["--no-wait", "--submission-id", "training"]
    end = time.monotonic() + PATIENCE
    with local_cluster(nodes=0, jobs=True) as cluster:
        assert run(cluster, command).returncode == 0
        while len(read_metrics(tmp_path / "run")) < 20:
            assert time.monotonic() < end
            time.sleep(0.1)
        assert run(cluster, ["ray", "job", "stop", "training"]).returncode == 0
        told = run(cluster, ["ray", "job", "logs", "training"]).stdout
    done = len(read_metrics(tmp_path / "run"))
    assert f"Stopped after step {done} of 5000" in told
    assert [checkpoint.step for checkpoint in list_checkpoints(tmp_path / "run")] == [done]


def test_a_run_survives_the_loss_of_a_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its cache in an object store, one of whose answers in twenty fails or is lost."""
    pytest.importorskip("obstore", reason="object stores need obstore")
    where = f"s3://{BUCKET}/cache"
    folder = save_config(tmp_path, 24, 0.3, actors=2, cache={"path": where})
    command = ["kdcache", "extract", str(folder / "extract.yaml"), "--set", "ray.address=auto"]
    with s3_server() as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        way = FaultyWay(variables["AWS_ENDPOINT_URL"].removeprefix("http://"), 0.0, 0.05, 1)
        with open_way(way), monkeypatch.context() as patch:
            patch.setenv("AWS_ENDPOINT_URL", url_of(way))
            done = run_while_a_node_is_lost(command, where)
        assert way.failed > 0
        assert done.returncode == 0, done.stderr
        assert verify(where) == []
        assert open_cache(where).content_digest() == digest_of_an_undisturbed_run(folder)


def run_while_a_node_is_lost(command: list[str], where: str) -> subprocess.CompletedProcess[str]:
    with local_cluster(nodes=2) as cluster:
        loss = threading.Thread(target=lose_a_node, args=(cluster, where))
        loss.start()
        done = run(cluster, command)
        loss.join()
        assert len(cluster.nodes) == 2  # the head, and the node that is left
    return done


def lose_a_node(cluster: LocalCluster, where: str) -> None:
    """Once both actors have committed, or soon after the first has."""
    storage, deadline = open_storage(where), time.monotonic() + PATIENCE
    while len(committed_units(storage)) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    cluster.lose_node()


def test_the_runner_passes_on_the_exit_code(repository: Path) -> None:
    code = "import os, sys; sys.exit(3 if os.environ['RAY_ADDRESS'] else 1)"
    runner = [sys.executable, str(repository / "cluster" / "local.py"), "--nodes", "0"]
    done = subprocess.run([*runner, "--", sys.executable, "-c", code], check=False)
    assert done.returncode == 3
