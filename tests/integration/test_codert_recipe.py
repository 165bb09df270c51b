"""The recipe of encoder logits: what its arms differ in, a tiny run of it, its small form."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from safetensors.torch import load_file

from kdcache.pipeline import load_recipe, make_plan
from kdcache.store import open_cache
from kdcache.train.metrics import read_metrics

if TYPE_CHECKING:
    from pathlib import Path

ARMS = ("none", "static", "replayed", "tandem", "shared")
AT = {"quarter": 1, "half": 2, "most": 3, "last": 4}
NETWORK = {"hidden": 16, "layers": 1, "heads": 2, "joint": 16, "subsampling_channels": 4}
TINY = [
    "params.steps=4",
    *(f"params.{name}={step}" for name, step in AT.items() if name != "last"),
    *(f"params.checkpoints.{name}='{step:08d}'" for name, step in AT.items()),
    *(f"params.{who}.{name}={n}" for who in ("large", "small") for name, n in NETWORK.items()),
    "params.large.hidden=24",
    "stages.speech.settings.synth.splits.train=12",
    "stages.speech.settings.synth.splits.test=4",
]

pytestmark = pytest.mark.ray


def run(out: Path, *words: str) -> dict[str, Any]:
    pytest.importorskip("espeakng_loader", reason="the synthesised corpus needs espeakng-loader")
    command = [sys.executable, "-m", "kdcache", "pipeline", "run", "codert", "--small"]
    done = subprocess.run(
        [*command, "--out", str(out), *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads((out / "results.json").read_text())
    return {arm["name"]: arm for arm in results["arms"]}


@pytest.mark.parametrize("small", [False, True])
def test_arms_differ_in_their_teacher_alone(small: bool, repository: Path, tmp_path: Path) -> None:
    plan = make_plan(load_recipe(repository / "pipelines" / "codert", small=small), tmp_path)
    teacher = plan.of_stage("teacher")[0].settings
    students = {stage.variables["arm"]: stage.settings for stage in plan.of_stage("student")}
    assert students.keys() == set(ARMS)
    static = students["static"]
    alike = {"student", "optim", "batch_seconds", "augment", "noise", "micro_batches_per_step"}
    for arm, settings in students.items():
        assert settings.model_dump(include=alike) == static.model_dump(include=alike)
        assert settings.loss.encoder_kl == (0.0 if arm == "none" else static.loss.encoder_kl)
        if settings.live is not None:
            assert settings.live.build == teacher.student
            assert settings.live.share_decoder == (arm == "shared")
    assert teacher.optim == static.optim
    steps = [0, *(later.from_step for later in students["replayed"].data.replay)]
    assert [4 * step // static.optim.steps for step in steps] == [0, 1, 2, 3]
    assert teacher.checkpoint_every * 4 == teacher.optim.steps


@pytest.mark.slow
def test_a_tiny_run_has_every_arm(tmp_path: Path) -> None:
    arms = run(tmp_path, *(word for setting in TINY for word in ("--set", setting)))
    assert arms.keys() == {
        *(f"student · {arm}" for arm in ARMS),
        *(f"teacher · {arm}" for arm in ("alone", "tandem", "shared")),
    }
    prints = [open_cache(tmp_path / "cache" / at / "cache").spec.teacher.fingerprint for at in AT]
    assert len(set(prints)) == len(AT)
    lines = {arm: read_metrics(tmp_path / "student" / arm / "0") for arm in ARMS}
    assert "encoder_kl" not in lines["none"][0]
    assert lines["static"][0]["encoder_kl"] != lines["replayed"][0]["encoder_kl"]
    assert all("teacher_loss" in line for arm in ("tandem", "shared") for line in lines[arm])
    student, teacher = (
        load_file(tmp_path / "student" / "shared" / "0" / who / "model.safetensors")
        for who in ("student", "teacher")
    )
    shared = [key for key in student if key.startswith("decoder.")]
    assert all(bool((student[key] == teacher[key]).all()) for key in shared)
    for arm in arms.values():
        assert {"entropy_encoder", "entropy_joint"} <= arm["figures"].keys()


@pytest.mark.slow
def test_the_small_form_ends_with_its_table(tmp_path: Path) -> None:
    arms = run(tmp_path)
    assert len(arms) == len(ARMS) + 3
    changes = [arm["changes"]["against no KD"] for arm in arms.values()]
    assert sum(change is not None for change in changes) == len(ARMS) - 1
