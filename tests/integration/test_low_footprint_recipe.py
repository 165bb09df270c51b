"""The recipe of small footprints: what it compares, a tiny run of all of it, and its small form."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import product
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from kdcache.pipeline import load_recipe, make_plan
from kdcache.student import build_student, load_student
from tests.command_lines import check_command, commands_in

if TYPE_CHECKING:
    from pathlib import Path

ARMS = {
    " · ".join(arm)
    for arm in product(
        ("own", "shared"), ("dense", "sparse"), ("float32", "int8"), ("none", "cached")
    )
}
NETWORK = {"hidden": 16, "layers": 2, "subsampling_channels": 4, "decoder.width": 16}
TINY = [
    "params.teacher_steps=2",
    "params.student_steps=3",
    "params.prune.begin=0",
    "params.prune.end=2",
    "params.timed=1",
    *(f"params.{who}.{name}={n}" for who in ("teacher", "student") for name, n in NETWORK.items()),
    "stages.speech.settings.synth.splits.train=12",
    "stages.speech.settings.synth.splits.test=3",
    "stages.speech.settings.subsets.student.hours=0.003",
]


def run(out: Path, *words: str) -> dict[str, Any]:
    pytest.importorskip("espeakng_loader", reason="the synthesised corpus needs espeakng-loader")
    command = [sys.executable, "-m", "kdcache", "pipeline", "run", "low_footprint", "--small"]
    done = subprocess.run(
        [*command, "--out", str(out), *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads((out / "results.json").read_text())
    return {arm["name"]: arm for arm in results["arms"]}


def check_sizes(arms: dict[str, Any], out: Path) -> None:
    """Each means saves bytes whatever the others do, and the bytes are those of the file."""
    figures = {name: arm["figures"] for name, arm in arms.items()}
    assert figures.keys() == {*ARMS, "teacher"}
    for name, found in figures.items():
        if name == "teacher":
            continue
        file = out / "packed" / name.replace(" · ", "/") / "0" / "student" / "model.packed"
        assert found["bytes"] == file.stat().st_size
        for off, on in (("own", "shared"), ("dense", "sparse"), ("float32", "int8")):
            if off in name:
                assert figures[name.replace(off, on)]["bytes"] < found["bytes"]
        assert found["sparsity"] == 0 if "dense · float32" in name else found["sparsity"] > 0
        assert found["cache_bytes_per_hour"] > 0
        assert found["real_time_factor"] > 0


def test_cells_differ_in_what_they_say(repository: Path, tmp_path: Path) -> None:
    recipe = repository / "pipelines" / "low_footprint"
    jobs = make_plan(load_recipe(recipe), tmp_path).of_stage("student")
    assert len(jobs) == 8 * 3
    settings = [job.settings for job in jobs]
    whole = settings[0].student.model_dump(exclude={"share"})
    assert all(one.student.model_dump(exclude={"share"}) == whole for one in settings)
    assert all(one.optim == settings[0].optim for one in settings)
    tokenizer = SimpleNamespace(vocab_size=17)
    counts = {
        str(one.student.share.encoder): sum(
            weight.numel() for weight in build_student(one.student, tokenizer).network.parameters()
        )
        for one in settings
    }
    assert counts["all"] < counts["none"] / 2.5
    assert [one.prune is None for one in settings].count(True) == 12
    assert {one.loss.decoder_kl for one in settings} == {0, 0.5}


def test_commands_of_the_page_exist(repository: Path) -> None:
    page = repository / "pipelines" / "low_footprint" / "README.md"
    found = commands_in(page.read_text(encoding="utf-8"))
    assert len(found) == 2
    for words in found:
        check_command(words)


@pytest.mark.slow
def test_a_tiny_run_packs_what_was_trained(tmp_path: Path) -> None:
    arms = run(tmp_path, *(word for setting in TINY for word in ("--set", setting)))
    check_sizes(arms, tmp_path)
    assert arms["shared · sparse · int8 · cached"]["changes"]["against no KD"] is not None
    trained = load_student(tmp_path / "student" / "shared" / "sparse" / "cached" / "0" / "student")
    packed = load_student(
        tmp_path / "packed" / "shared/sparse/float32/cached/0" / "student"
    ).network.state_dict()
    for name, weight in trained.network.state_dict().items():
        assert torch.equal(packed[name], weight)


@pytest.mark.slow
def test_the_small_form_ends_with_its_table(tmp_path: Path) -> None:
    arms = run(tmp_path)
    check_sizes(arms, tmp_path)
    assert arms["teacher"]["wer"] < 0.3
    smallest, largest = (
        arms[f"{name} · none"] for name in ("shared · sparse · int8", "own · dense · float32")
    )
    assert smallest["figures"]["bytes"] < largest["figures"]["bytes"] / 5
