"""The recipe of two passes: what it compares, a tiny run of all of it, and its small form."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from kdcache.pipeline import load_recipe, make_plan
from kdcache.student import build_student, load_student

if TYPE_CHECKING:
    from pathlib import Path

ARMS = {
    "1+2 · teacher",
    "1+2 · scratch",
    "1+2 · distilled_first",
    "1+2 · distilled",
    "1+2+3 · scratch",
    "1+2+3 · distilled_then_alone",
    "1+2+3 · distilled",
}
STEPS = ("teacher_steps", "teacher_second_steps", "first_steps", "second_steps", "third_steps")
STAGES = ("first", "second", "third")
NETWORK = {"hidden": 16, "layers": 1, "heads": 2, "joint": 16, "subsampling_channels": 4}
TINY = [
    *(f"params.{name}=2" for name in STEPS),
    *(f"params.{who}.{name}={n}" for who in ("teacher", "student") for name, n in NETWORK.items()),
    "params.teacher_rescorer.width=16",
    "params.student_rescorer.width=16",
    "params.beam=2",
    "stages.speech.settings.synth.splits.train=12",
    "stages.speech.settings.synth.splits.dev=3",
    "stages.speech.settings.synth.splits.test=4",
    "stages.speech.settings.subsets.student.hours=0.003",
]


def run(out: Path, *words: str) -> dict[str, Any]:
    pytest.importorskip("espeakng_loader", reason="the synthesised corpus needs espeakng-loader")
    command = [sys.executable, "-m", "kdcache", "pipeline", "run", "two_pass", "--small"]
    done = subprocess.run(
        [*command, "--out", str(out), *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads((out / "results.json").read_text())
    return {arm["name"]: arm for arm in results["arms"]}


def same(one: Path, other: Path, prefix: str) -> bool:
    """Whether two students have the same bits under a name."""
    states = [load_student(path / "student").state_dict() for path in (one, other)]
    names = [name for name in states[0] if name.startswith(prefix)]
    assert names
    return all(torch.equal(states[0][name], states[1][name]) for name in names)


@pytest.mark.parametrize("small", [False, True])
def test_a_student_has_at_most_45_percent_of_the_teacher(
    small: bool, repository: Path, tmp_path: Path
) -> None:
    recipe = repository / "pipelines" / "two_pass"
    plan = make_plan(load_recipe(recipe, small=small), tmp_path)

    def parameters(first: str, second: str) -> int:
        sizes = plan.of_stage(first)[0].settings.student
        rescorer = plan.of_stage(second)[0].settings.student.rescorer
        whole = sizes.model_copy(update={"rescorer": rescorer, "ctc_head": False})
        student = build_student(whole, SimpleNamespace(vocab_size=50))
        return sum(weight.numel() for weight in student.parameters())

    assert 0.38 < parameters("first", "second") / parameters("teacher_first", "teacher") <= 0.45


def test_transducers_begin_as_ctc_heads_where_there_are_sentences(
    repository: Path, tmp_path: Path
) -> None:
    recipe = repository / "pipelines" / "two_pass"
    jobs = {job.name: job for job in make_plan(load_recipe(recipe), tmp_path).jobs}
    for arm in ("scratch", "distilled"):
        assert jobs[f"first/{arm}/1"].settings.begin_from_ctc
        assert "ctc" in jobs[f"first/{arm}/1"].needs
    assert jobs["teacher_first"].settings.init == jobs["teacher_ctc"].outputs["student"]
    small = {job.name: job for job in make_plan(load_recipe(recipe, small=True), tmp_path).jobs}
    assert not small.keys() & {"teacher_ctc", "ctc"}
    assert small["teacher_first"].settings.init is None


@pytest.mark.slow
def test_a_tiny_run_freezes_what_it_should_and_tells_both_passes(tmp_path: Path) -> None:
    arms = run(tmp_path, *(word for setting in TINY for word in ("--set", setting)))
    assert arms.keys() == {f"{arm} · {which}" for arm in ARMS for which in ("first", "rescored")}
    first, second, third = (tmp_path / stage / "distilled" / "0" for stage in STAGES)
    for prefix in ("model.", "ctc_head."):
        assert same(first, second, prefix)
        assert not same(second, third, prefix)
    assert not same(second, third, "rescorer.")
    rescored = arms["1+2 · distilled · rescored"]
    assert rescored["figures"]["nearest"] <= rescored["wer"]
    assert rescored["changes"]["against from scratch"] is not None


@pytest.mark.slow
def test_the_small_form_ends_with_its_table(tmp_path: Path) -> None:
    arms = run(tmp_path)
    assert arms.keys() == {f"{arm} · {which}" for arm in ARMS for which in ("first", "rescored")}
    assert arms["1+2 · teacher · first"]["wer"] < 0.3
    for arm in ARMS:
        parts = arms[f"{arm} · first"]["figures"], arms[f"{arm} · rescored"]["figures"]
        assert parts[0]["parameters"] < parts[1]["parameters"]
