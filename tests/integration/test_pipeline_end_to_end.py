"""Recipes with real stages: a tiny one, killed and gone on with, and the shipped ones in small."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from kdcache.cli.main import main
from kdcache.score.counts import read_counts
from kdcache.score.size import weight_size
from kdcache.student import load_student

if TYPE_CHECKING:
    from pathlib import Path

NETWORK = {"hidden": 16, "layers": 1, "heads": 2, "joint": 16, "subsampling_channels": 4,
           "ctc_head": True}  # fmt: skip
TINY = [
    "params.teacher_steps=4",
    "params.small_steps=6",
    "params.pruned_steps=4",
    "params.prune_begin=0",
    "params.prune_end=3",
    "stages.speech.settings.synth.splits.train=16",
    "stages.speech.settings.synth.splits.test=6",
    "stages.speech.settings.subsets.student.hours=0.006",
    "stages.student.for_each.size.p60=null",
    "stages.student.for_each.size.small=null",
    "defaults.train.checkpoint_every=2",
    *(f"params.{who}.{name}={n}" for who in ("large", "small") for name, n in NETWORK.items()),
]


def command(out: Path, *words: str) -> list[str]:
    given = [word for setting in TINY for word in ("--set", setting)]
    run = [sys.executable, "-m", "kdcache", "pipeline", "run", "efficient_rnnt", "--small"]
    return [*run, "--out", str(out), *given, *words]


def run(out: Path, *words: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command(out, *words), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    while not path.exists():
        assert process.poll() is None
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def _voices() -> None:
    pytest.importorskip("espeakng_loader", reason="the synthesised corpus needs espeakng-loader")


def test_its_first_stages_at_a_size_at_which_nobody_learns_anything(tmp_path: Path) -> None:
    """Without Ray, which only the extractions need."""
    words = command(tmp_path / "out", "--stage", "score_teacher", "--json")
    done = CliRunner().invoke(main, words[3:], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    stages = json.loads(done.stdout)["stages"]
    names = ["speech", "tokenizer", "teacher", "score_teacher"]
    assert [stage["job"] for stage in stages] == names
    report = read_counts(tmp_path / "out" / "score_teacher" / "score.json")
    assert report.labels == {"model": "teacher"}
    assert len(report.ids) == 6


@pytest.mark.slow
@pytest.mark.ray
def test_a_tiny_run_is_killed_and_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = subprocess.Popen(command(out), stderr=subprocess.DEVNULL, start_new_session=True)
    wait_for(out / "teacher" / "checkpoints" / "step-00000002" / "training.pt", first)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    done = run(out, "--jobs", "2")
    assert "speech: unchanged" in done.stderr
    assert "teacher: goes on" in done.stderr
    for name in ("none", "collapsed"):
        size = weight_size(load_student(out / "student" / "p90" / name / "0" / "student").model)
        assert 0.6 < size.sparsity < 0.9  # so small a network is full of depthwise kernels
    results = json.loads((out / "results.json").read_text())
    assert [arm["name"] for arm in results["arms"]] == [
        "teacher",
        "p90 · none",
        "p90 · collapsed",
        "small · uncertain",
        "small · mismatched",
    ]
    assert results["arms"][2]["changes"]["against no KD"] is not None
    assert results["arms"][2]["figures"]["cache_bytes_per_hour"] > 0
    assert (out / "results.md").read_text() == done.stdout.removesuffix("\n")
    again = run(out, "--set", "ray=false")
    assert again.stderr.count("unchanged") == len(again.stderr.splitlines())


@pytest.mark.slow
@pytest.mark.ray
def test_the_small_form_ends_with_its_table(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "kdcache", "pipeline", "run", "efficient_rnnt", "--small"]
    done = subprocess.run(
        [*words, "--out", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads((tmp_path / "results.json").read_text())
    arms = {arm["name"]: arm for arm in results["arms"]}
    assert arms.keys() == {
        "teacher",
        *(f"{size} · {kd}" for size in ("small", "p60", "p90") for kd in ("none", "collapsed")),
        "small · uncertain",
        "small · mismatched",
    }
    assert arms["p60 · none"]["figures"]["sparsity"] == pytest.approx(0.6, abs=0.02)
    assert arms["p90 · none"]["figures"]["sparse_bytes"] < 0.2 * arms["teacher"]["figures"]["bytes"]
    assert arms["teacher"]["wer"] < 0.2
    assert done.stdout.count("|") > 50
