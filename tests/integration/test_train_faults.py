"""Kill −9 of a worker, and of the driver: training goes on and ends on the same curve."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from cluster.local import local_cluster
from kdcache.errors import ConfigError
from kdcache.train import TrainSettings, run_training
from kdcache.train.loop import Trainer
from kdcache.train.metrics import read_metrics
from kdcache.train.world import World
from tests.integration.test_extract_kill import descendants

pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds worker processes in /proc"),
]

SMALL = {"hidden": 16, "layers": 1, "heads": 2, "feed_forward": 2, "joint": 16,
         "subsampling_channels": 4}  # fmt: skip
STEPS = 60
PATIENCE = 300.0


def settings_of(tones: Path, out: Path, **changes: Any) -> TrainSettings:
    values: dict[str, Any] = {
        "out": out,
        "data": {"corpus": tones / "train.jsonl", "tokenizer": tones / "tokenizer"},
        "student": SMALL,
        "optim": {"steps": STEPS, "warmup": 2, "learning_rate": 1e-3},
        "batch_seconds": 8.0,
        "micro_batches_per_step": 3,
        "checkpoint_every": 10,
        "workers": 2,
        "cpus_per_worker": 0.5,
        "threads": 1,
    }
    return TrainSettings.model_validate(values | changes)


@pytest.fixture(scope="module")
def undisturbed(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What one worker measures that nobody kills."""
    out = tmp_path_factory.mktemp("undisturbed")
    Trainer(settings_of(tones, out, workers=1), World()).run()
    return read_metrics(out)


def check_same_losses(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert [line["step"] for line in found] == list(range(1, STEPS + 1))
    for name in ("loss", "gradient_norm", "learning_rate"):
        curves = [[line[name] for line in lines] for lines in (found, expected)]
        assert curves[0] == pytest.approx(curves[1], rel=5e-3)


def check_same_curve(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    check_same_losses(found, expected)
    began_again = [a["seconds"] > b["seconds"] for a, b in pairwise(found)]
    assert sum(began_again) == 1, "the kill came before the first checkpoint, or after the end"


def train_workers(parent: int) -> list[int]:
    """Processes below ``parent`` in which Ray Train trains."""
    found = []
    for process in descendants(parent):
        try:
            title = Path(f"/proc/{process}/cmdline").read_bytes()
        except OSError:
            continue
        if b"RayTrainWorker" in title:
            found.append(process)
    return sorted(found)


@pytest.mark.usefixtures("ray_cluster")
def test_a_killed_worker(tones: Path, tmp_path: Path, undisturbed: list[dict[str, Any]]) -> None:
    killed: list[int] = []

    def watch(values: dict[str, Any]) -> None:
        if values["step"] >= 12 and not killed:
            killed.append(train_workers(os.getpid())[-1])
            os.kill(killed[0], signal.SIGKILL)

    report = run_training(settings_of(tones, tmp_path / "run"), watch)
    assert killed
    assert report.steps == STEPS
    check_same_curve(read_metrics(tmp_path / "run"), undisturbed)


@pytest.mark.slow
def test_a_killed_driver(tones: Path, tmp_path: Path, undisturbed: list[dict[str, Any]]) -> None:
    """Only the driver is killed: what it started must end by itself, and not train on."""
    settings = settings_of(tones, tmp_path / "run")
    config = tmp_path / "train.yaml"
    config.write_text(json.dumps(settings.model_dump(mode="json")))
    command = [sys.executable, "-m", "kdcache", "train", str(config), "--json"]
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + PATIENCE
    while len(read_metrics(tmp_path / "run")) < 12 and driver.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    driver.kill()
    driver.wait()
    result = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["steps"] == STEPS
    check_same_curve(read_metrics(tmp_path / "run"), undisturbed)


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_driver_that_is_told_to_stop(
    tones: Path, tmp_path: Path, undisturbed: list[dict[str, Any]], number: signal.Signals
) -> None:
    """As Slurm and `ray job stop` do: no step that was done is lost."""
    settings = settings_of(tones, tmp_path / "run", checkpoint_every=1000)
    config = tmp_path / "train.yaml"
    config.write_text(json.dumps(settings.model_dump(mode="json")))
    command = [sys.executable, "-m", "kdcache", "train", str(config), "--json"]
    driver = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + PATIENCE
    while len(read_metrics(tmp_path / "run")) < 12 and driver.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    driver.send_signal(number)
    out, said = driver.communicate(timeout=PATIENCE)
    assert (driver.returncode, out) == (128 + number, ""), said
    done = len(read_metrics(tmp_path / "run"))
    assert f"Stopped after step {done} of {STEPS}, which" in said.splitlines()[-1]
    assert number.name not in said
    assert list((tmp_path / "run").glob(".training-*")) == []
    assert done < STEPS
    report = run_training(settings.model_copy(update={"workers": 1}), here=True)
    assert report.steps == STEPS
    check_same_losses(read_metrics(tmp_path / "run"), undisturbed)


TOLD = """
import os, signal, sys, threading, time
from kdcache.cli.main import main

def tell():
    while not any(thread.name == "kdcache-tell" for thread in threading.enumerate()):
        time.sleep(0.05)
    time.sleep(float(sys.argv[2]))
    os.kill(os.getpid(), signal.Signals[sys.argv[3]])

threading.Thread(target=tell, daemon=True).start()
main(["train", sys.argv[1]])
"""


@pytest.mark.parametrize(
    ("seconds", "name"),
    [
        (5.0, "SIGTERM"),
        pytest.param(5.0, "SIGINT", marks=pytest.mark.slow),
        pytest.param(0.0, "SIGTERM", marks=pytest.mark.slow),
    ],
)
def test_a_driver_that_is_told_to_stop_while_its_workers_wait_for_a_place(
    tones: Path, tmp_path: Path, seconds: float, name: str
) -> None:
    """And while they are asked for: Ray comes back from there, and leaves in peace."""
    settings = settings_of(tones, tmp_path / "run", workers=1, cpus_per_worker=64.0)
    config = tmp_path / "train.yaml"
    with local_cluster(nodes=0, cpus=1) as cluster:
        values = settings.model_dump(mode="json") | {"ray_address": cluster.address}
        config.write_text(json.dumps(values))
        result = subprocess.run(
            [sys.executable, "-c", TOLD, str(config), str(seconds), name],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            env=cluster.environment,
        )
    assert result.returncode == 128 + signal.Signals[name], result.stderr
    assert "Stopped after step 0" in result.stderr.splitlines()[-1]


def test_gpus_that_this_machine_has_not_are_not_waited_for(tones: Path, tmp_path: Path) -> None:
    settings = settings_of(tones, tmp_path / "run", workers=9, micro_batches_per_step=9, gpu=True)
    with pytest.raises(ConfigError, match=r"a GPU for each of 9 worker\(s\), and here there are"):
        run_training(settings)
