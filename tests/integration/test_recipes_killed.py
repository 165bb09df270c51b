"""Each published recipe, tiny: killed five times over its stages, it makes the same."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from kdcache.store import open_cache
from tests.integration import (
    test_codert_recipe,
    test_distill_w2v2,
    test_low_footprint_recipe,
    test_pipeline_end_to_end,
    test_two_pass_recipe,
)

if TYPE_CHECKING:
    from pathlib import Path

KILLS = 5
PATIENCE = 900.0
TINY = {
    "efficient_rnnt": test_pipeline_end_to_end.TINY,
    "codert": test_codert_recipe.TINY,
    "two_pass": test_two_pass_recipe.TINY,
    "distill_w2v2": test_distill_w2v2.TINY,
    "low_footprint": test_low_footprint_recipe.TINY,
}

pytestmark = [pytest.mark.slow, pytest.mark.ray]


def command(recipe: str, out: Path) -> list[str]:
    sets = [*TINY[recipe], "defaults.train.threads=1", "defaults.train.checkpoint_every=1"]
    run = [sys.executable, "-m", "kdcache", "pipeline", "run", recipe, "--small"]
    return [*run, "--out", str(out), *(word for setting in sets for word in ("--set", setting))]


def run_to_the_end(recipe: str, out: Path) -> str:
    done = subprocess.run(
        command(recipe, out), capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


def kill(recipe: str, out: Path, part: float, seconds: float, how: signal.Signals) -> None:
    """In the midst of a run: some seconds after so great a part of its stages."""
    with subprocess.Popen(
        command(recipe, out),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            stage = re.match(r"\[(\d+)/(\d+)\]", line)
            if stage is not None and int(stage[1]) > part * int(stage[2]):
                break
        time.sleep(seconds)
        send = os.kill if how is signal.SIGTERM else os.killpg  # told, or as a machine goes down
        send(process.pid, how)
        process.stderr.read()
    assert process.returncode in (-how, 128 + how)


def made_by(out: Path) -> dict[str, Any]:
    """All that a run is for: weights, caches, what was heard, and the table, but for times."""
    files = sorted(file for file in out.rglob("*") if "checkpoints" not in file.parts)
    return {
        "weights": {
            str(file.relative_to(out)): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in files
            if file.name in ("model.safetensors", "model.packed")
        },
        "caches": {
            str(file.relative_to(out)): open_cache(file.parent).content_digest()
            for file in files
            if file.name == "kdcache.json"
        },
        "scores": {
            str(file.relative_to(out)): timeless(json.loads(file.read_text()))
            for file in files
            if file.name in ("score.json", "first.json", "rescored.json")
        },
        "arms": timeless(json.loads((out / "results.json").read_text())["arms"]),
    }


def timeless(values: Any) -> Any:
    if isinstance(values, list):
        return [timeless(value) for value in values]
    if isinstance(values, dict):
        found = {name: timeless(value) for name, value in values.items()}
        return {k: v for k, v in found.items() if "seconds" not in k and "real_time" not in k}
    return values


@pytest.mark.parametrize("recipe", TINY)
def test_a_run_that_is_killed_again_and_again_makes_the_same(recipe: str, tmp_path: Path) -> None:
    pytest.importorskip("espeakng_loader", reason="the synthesised corpus needs espeakng-loader")
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    run_to_the_end(recipe, undisturbed)
    rng = random.Random(recipe)
    for turn in range(KILLS):
        how = rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM])
        kill(recipe, killed, turn / KILLS, rng.uniform(0.0, 0.5), how)
    assert "unchanged" in run_to_the_end(recipe, killed)
    made, expected = made_by(killed), made_by(undisturbed)
    for name, values in expected.items():
        assert values
        assert made[name] == values, name
