"""``kdcache extract --max-kl``: what reaches the run, and what people are told. No Ray."""

from __future__ import annotations

import json

import pytest
import yaml
from click.testing import CliRunner

from kdcache.corpus.tolerant import BadLine
from kdcache.errors import ConfigError
from kdcache.extract.errand import Survey
from kdcache.extract.report import ExtractReport
from kdcache.extract.tally import Snapshot
from kdcache.store import Choice, Considered

PICKED = Considered({"min_p": 5e-5}, {"name": "root", "bits": 7}, 2e6, 8e-4, 9e-4, 4e-3)
CHEAPER = Considered({"min_p": 2e-4}, {"name": "root", "bits": 6}, 1e6, 2e-3, 3e-3, 9e-3)
CHOICE = Choice(
    target="encoder_logits",
    max_kl=0.001,
    measure="kl_full",
    band=False,
    asked={"settings": {}, "codec": {}, "auto": []},
    candidates=24,
    utterances=40,
    hours=0.1,
    picked=PICKED,
    others=(CHEAPER,),
)


@pytest.fixture
def extract(tmp_path, monkeypatch):
    """Run the command; the extraction itself is played, and its settings are kept."""
    config = tmp_path / "extract.yaml"
    least = {"corpus": "c", "cache": {"path": "k"}, "targets": "lattice", "teacher": {"path": "t"}}
    config.write_text(yaml.safe_dump(least))
    seen = []

    def played(settings, watch, watch_survey):
        seen.append(settings)
        if settings.max_kl == 1e-9:
            raise ConfigError("No setting of target 'lattice' is within max_kl 1e-09.")
        if settings.max_kl is not None:
            watch_survey(Survey("hearing a sample", "utterances", 40, 40))
            watch_survey(Survey("choosing settings", "targets", 1, 1, (CHOICE,)))
        watch(Snapshot(3, 3, 0, 3600.0, 10.0))
        choices = () if settings.max_kl is None else (CHOICE,)
        return ExtractReport("k", 3, 3, 0, {}, (), {}, 1.0, 10**6, 10.0, "digest", choices=choices)

    monkeypatch.setattr("kdcache.extract.run_extract", played)

    def run(*arguments):
        from kdcache.cli.main import main

        return CliRunner().invoke(main, ["extract", str(config), *arguments]), seen

    return run


def test_without_a_goal_nothing_is_chosen(extract):
    result, (settings,) = extract()
    assert result.exit_code == 0
    assert settings.max_kl is None
    assert "chosen" not in result.output


def test_the_goal_reaches_the_run_and_the_choice_is_told(extract):
    result, (settings,) = extract("--max-kl", "0.001")
    assert result.exit_code == 0
    assert settings.max_kl == 0.001
    told = [" ".join(line.split()) for line in result.stderr.splitlines()]
    assert told == [
        "hearing a sample: 40 of 40 utterances",
        "encoder_logits: at most 0.001 nats over the whole vocabulary; "
        "24 settings on 40 utterances",
        "settings MB an hour KL mean at most KL 99 %",
        "min_p 0.0002; root, bits 6 1 0.002 0.003 0.009 loses too much",
        "→ min_p 5e-05; root, bits 7 2 0.0008 0.0009 0.004 the smallest within it",
        "extracting: 3 of 3 utterances, 1.00 h at 360× real time, 0.0 MB, 0 actors",
    ]
    assert (
        "encoder_logits: chosen for KL ≤ 0.001 among 24 settings on 40 utterances (0.0008 there)"
        in result.stdout
    )


def test_json_holds_the_whole_choice(extract):
    result, _ = extract("--max-kl", "0.001", "--json")
    (choice,) = json.loads(result.stdout)["choices"]
    assert Choice.from_dict(choice) == CHOICE


def test_the_option_is_shorthand_for_the_setting(extract):
    _, seen = extract("--set", "max_kl=0.5")
    extract("--set", "max_kl=0.5", "--max-kl", "0.25")
    assert [settings.max_kl for settings in seen] == [0.5, 0.25]


@pytest.mark.parametrize("goal", ["0", "-1", "small"])
def test_a_goal_that_is_none_is_bad_usage(extract, goal):
    result, seen = extract("--max-kl", goal)
    assert result.exit_code == 2
    assert "max_kl" in result.stderr
    assert not seen


def test_out_of_reach_is_one_sentence(extract):
    result, _ = extract("--max-kl", "1e-9")
    assert result.exit_code == 2
    assert result.stderr == "Error: No setting of target 'lattice' is within max_kl 1e-09.\n"


@pytest.fixture
def incomplete(extract, monkeypatch, tmp_path):
    """Run the command, of which some utterances fail."""

    def run(*arguments, **changes):
        values = {"failed": {"audio": ("b",)}, "messages": {"b": "b.wav does not exist."}}
        made = ExtractReport(
            "k", 3, 2, 0, **{**values, **changes}, left=(), hours=1.0, bytes=10**6, seconds=10.0,
            content_digest="digest",
        )  # fmt: skip
        seen = []
        monkeypatch.setattr(
            "kdcache.extract.run_extract", lambda settings, *_: seen.append(settings) or made
        )
        return extract(*arguments)[0], seen[0]

    return run


def test_an_incomplete_cache_ends_with_the_command_that_tries_again(incomplete, tmp_path):
    result, settings = incomplete("--max-kl", "0.001", "--set", "actors=2")
    assert result.exit_code == 3
    assert "b.wav does not exist." in result.stdout
    assert not settings.retry_failed
    again = f"kdcache extract {tmp_path}/extract.yaml --set=actors=2 --set=max_kl=0.001"
    assert result.stderr.endswith(f"{again} --retry-failed\n")


def test_the_command_that_is_told_is_the_one_that_retries(incomplete):
    result, _ = incomplete("--set", "actors=2")
    arguments = result.stderr.split()[-2:]
    again, settings = incomplete(*arguments)
    assert settings.retry_failed
    assert settings.actors == 2
    assert again.exit_code == 3


def test_unusable_lines_alone_are_incomplete_too(incomplete):
    line = BadLine("m, line 2", "m, line 2 is not JSON.")
    result, _ = incomplete(failed={}, bad_lines=(line,))
    assert result.exit_code == 3
    assert "1 line(s) of the manifest could not be used" in result.stderr
    assert "--retry-failed" not in result.stderr
