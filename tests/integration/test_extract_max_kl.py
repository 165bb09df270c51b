"""A goal in nats, under Ray and from the command line: chosen once, told, kept and held to."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from kdcache.extract import ExtractConfig, run_extract
from kdcache.store import open_cache, verify
from tests.unit.extract.extract_fakes import ADAPTER, extract_here, save_corpus, save_fake_teacher

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

GOAL = 0.002


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("max_kl")
    save_corpus(folder / "wav", [4000 + 400 * i for i in range(12)])
    save_fake_teacher(folder / "teacher")
    return folder


def config(place, name="cache", **changes):
    settings = {
        "teacher": {"path": str(place / "teacher"), "adapter": ADAPTER},
        "corpus": str(place / "wav" / "manifest.jsonl"),
        "cache": {"path": str(place / name)},
        "targets": [
            {"kind": "lattice", "width": 3},
            {"kind": "encoder_logits", "codec": {"name": "root", "bits": 6}},
            "hidden",
        ],
        "unit_utterances": 4,
        "actors": 1,
    }
    return {**settings, **changes}


def extract(place, *arguments, **changes):
    from kdcache.cli.main import main

    (place / "extract.yaml").write_text(json.dumps(config(place, **changes)))
    return CliRunner().invoke(main, ["extract", str(place / "extract.yaml"), *arguments])


def test_the_command_chooses_once_tells_it_and_keeps_to_it(place):
    first = extract(place, "--max-kl", str(GOAL), "--json")
    assert first.exit_code == 0, first.stderr
    report = json.loads(first.stdout)
    assert [choice["target"] for choice in report["choices"]] == ["lattice", "encoder_logits"]
    assert "encoder_logits: at most 0.002 nats over the whole vocabulary" in first.stderr
    assert "the smallest within it" in first.stderr
    assert "hearing a sample: 12 of 12 utterances" in first.stderr
    assert verify(place / "cache") == []

    cache = open_cache(place / "cache")
    for name, measure in (("lattice", "kl_mean"), ("encoder_logits", "kl_full_mean")):
        lost = cache.catalogue[f"fidelity.{name}.{measure}"].to_numpy()
        assert np.mean(lost) <= GOAL
        assert np.mean(lost) > 0

    again = extract(place, "--max-kl", str(GOAL))
    assert again.exit_code == 0
    assert "hearing" not in again.stderr
    assert "encoder_logits: chosen for KL ≤ 0.002 among" in again.stdout
    assert report["content_digest"] in again.stdout

    other = extract(place, "--max-kl", "0.1")
    assert other.exit_code == 2
    assert "was chosen for max_kl 0.002, 0.1 was asked for" in other.stderr


def test_an_actor_chooses_what_this_process_would(place):
    asked = ExtractConfig.model_validate(config(place, "there", max_kl=GOAL))
    here = ExtractConfig.model_validate(config(place, "here", max_kl=GOAL))
    seen = []
    report = run_extract(asked, watch_survey=seen.append)
    assert report.content_digest == extract_here(here).content_digest()
    assert open_cache(place / "there").choices == open_cache(place / "here").choices
    assert seen[-1].choices == report.choices
    assert seen[0].unit == "utterances"


def test_a_goal_out_of_reach_ends_the_command_with_one_sentence(place):
    result = extract(place, "--max-kl", "1e-12", cache={"path": str(place / "none")})
    assert result.exit_code == 2
    assert result.stderr.count("Error:") == 1
    assert "is within max_kl 1e-12: the best of" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (place / "none").exists()


def test_a_sample_that_kills_the_actor_is_one_sentence(place):
    save_fake_teacher(place / "deadly", die=[4000])
    teacher = {"path": str(place / "deadly"), "adapter": ADAPTER}
    result = extract(place, "--max-kl", "1", teacher=teacher, cache={"path": str(place / "none")})
    assert result.exit_code == 1
    assert "try a lower sample_utterances" in result.stderr
    assert "Traceback" not in result.stderr
