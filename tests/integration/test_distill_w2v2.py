"""The recipe distill_w2v2: what depends on what, and that it ends with its table."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from kdcache.pipeline import default_recipes, load_recipe, make_plan

if TYPE_CHECKING:
    from pathlib import Path

    from kdcache.pipeline import Plan

TINY = [
    "params.teacher_steps=3",
    "params.steps=2",
    "params.steps_of_both=4",
    "params.width=16",
    "stages.speech.settings.synth.splits.train=12",
    "stages.speech.settings.synth.splits.test=4",
]


def plan_of(out: Path, small: bool) -> Plan:
    recipe = load_recipe(default_recipes() / "distill_w2v2", small=small)
    return make_plan(recipe, out)


def test_the_second_stage_s_teacher_is_the_first_stage_s_student(tmp_path: Path) -> None:
    jobs = {job.name: job for job in plan_of(tmp_path, small=False).jobs}
    for seed in (0, 1, 2):
        assert f"whole/distilled/{seed}" in jobs[f"small_cache/{seed}"].needs
        streams = jobs[f"streaming/two_stages_shifted/24/{seed}"]
        assert {f"small_cache/{seed}", f"whole/distilled/{seed}"} <= set(streams.needs)
        at_once = jobs[f"streaming_direct/at_once/12/{seed}"]
        assert "teacher_cache" in at_once.needs
        assert at_once.settings.student.streaming.chunk == 12
        assert at_once.settings.targets() == (
            "encoder_logits", "frame_logits", "hidden_2", "hidden_4",
        )  # fmt: skip
        assert at_once.settings.init is None
        longer = jobs[f"streaming_direct/at_once_longer/12/{seed}"].settings
        stages = [jobs[f"whole/distilled/{seed}"], jobs[f"streaming/two_stages/12/{seed}"]]
        assert longer.optim.steps == sum(stage.settings.optim.steps for stage in stages)
        scratch = jobs[f"streaming_scratch/12/{seed}"].settings
        assert scratch.student == at_once.settings.student
        assert scratch.loss.weights() == {"ctc": 1}


def test_no_control_of_two_stages_has_a_teacher_or_fewer_updates(tmp_path: Path) -> None:
    jobs = {job.name: job for job in plan_of(tmp_path, small=False).jobs}
    for seed in (0, 1, 2):
        stages = [jobs[f"whole/distilled/{seed}"], jobs[f"streaming/two_stages/12/{seed}"]]
        updates = sum(stage.settings.optim.steps for stage in stages)
        longer = jobs[f"streaming_scratch_longer/12/{seed}"].settings
        assert (longer.init, longer.optim.steps) == (None, updates)
        first, then = jobs[f"whole/scratch/{seed}"], jobs[f"streaming_after_whole/12/{seed}"]
        assert first.name in then.needs
        assert first.settings.optim.steps + then.settings.optim.steps == updates
        for settings in (longer, first.settings, then.settings):
            assert settings.loss.weights() == {"ctc": 1}


def test_what_learns_from_both_has_the_updates_of_its_controls(tmp_path: Path) -> None:
    jobs = {job.name: job for job in plan_of(tmp_path, small=False).jobs}
    for seed in (0, 1, 2):
        whole, streaming = jobs[f"whole/both/{seed}"], jobs[f"streaming_both/24/{seed}"]
        control = jobs[f"whole/scratch/{seed}"], jobs[f"streaming_after_whole/24/{seed}"]
        assert whole.name in jobs[f"cache_of_both/{seed}"].needs
        assert {whole.name, f"cache_of_both/{seed}"} <= set(streaming.needs)
        for found, expected in zip((whole, streaming), control, strict=True):
            assert found.settings.optim == expected.settings.optim
            assert found.settings.seed == expected.settings.seed == seed
            weights = found.settings.loss.weights()
            assert weights["ctc"] == 1
            assert weights == jobs["whole/both/0"].settings.loss.weights()
        then = jobs[f"streaming_after_both/24/{seed}"]
        assert whole.name in then.needs
        assert then.settings.optim == control[1].settings.optim
        assert then.settings.loss == control[1].settings.loss


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize("sets", [TINY, []], ids=["tiny", "small"])
def test_it_ends_with_its_table(tmp_path: Path, sets: list[str]) -> None:
    pytest.importorskip("espeakng_loader", reason="the synthesised corpus needs espeakng-loader")
    given = [word for setting in sets for word in ("--set", setting)]
    words = [sys.executable, "-m", "kdcache", "pipeline", "run", "distill_w2v2", "--small"]
    done = subprocess.run(
        [*words, "--out", str(tmp_path), *given], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    arms = {arm["name"]: arm for arm in json.loads((tmp_path / "results.json").read_text())["arms"]}
    assert arms.keys() == {
        "teacher · whole",
        "scratch · whole",
        "distilled · whole",
        "both · whole",
        "scratch · 24",
        "scratch_longer · 24",
        "scratch_two_stages · 24",
        "at_once · 24",
        "at_once_longer · 24",
        "two_stages · 24",
        "both · 24",
        "both_then_transcripts · 24",
    }
    streams, whole = arms["two_stages · 24"]["figures"], arms["distilled · whole"]["figures"]
    assert streams["latency_worst"] == pytest.approx(24 * 0.02 + 0.03, abs=0.011)
    assert streams["latency_mean"] < streams["latency_worst"] < whole["latency_worst"]
    assert (
        streams["parameters"]
        == whole["parameters"]
        < arms["teacher · whole"]["figures"]["parameters"]
    )
    if not sets:
        assert arms["two_stages · 24"]["wer"] < 0.9
