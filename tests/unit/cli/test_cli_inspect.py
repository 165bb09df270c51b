"""inspect: choosing utterances, one utterance's belief, and what users get wrong."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from kdcache.cli.main import main
from kdcache.store import open_cache

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def data(*arguments: object) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_the_largest_first(cache: Path) -> None:
    found = data("inspect", cache, "--sort", "kl", "--top", 2)
    assert [one["id"] for one in found["utterances"]] == ["c", "b"]
    assert (found["found"], found["sorted_by"]) == (3, "lattice.kl_mean")
    assert found["hours"] == pytest.approx(5.4 / 3600)


def test_a_condition(cache: Path) -> None:
    found = data("inspect", cache, "--where", "duration > 1 and kl_lattice > 0.3")
    assert [one["id"] for one in found["utterances"]] == ["b", "c"]
    text = run("inspect", cache, "--where", "kl > 0.7").stdout.splitlines()
    assert text[0] == "1 utterance, 1.8 s"
    assert text[2].split() == ["id", "duration", "labels", "lattice.kl_mean", "text"]
    assert text[3].split() == ["c", "1.8", "2", "0.75", "say", "c"]


def test_a_condition_that_nothing_fulfils(cache: Path) -> None:
    assert run("inspect", cache, "--where", "duration > 99").stdout == "0 utterances, 0.0 s\n"


def test_unlikely_transcripts(cache: Path) -> None:
    found = data("inspect", cache, "--label-noise", "--top", 2)
    assert found["target"] == "lattice"
    nats = [one["nats_per_label"] for one in found["utterances"]]
    assert len(nats) == 2
    assert nats == sorted(nats, reverse=True)
    lines = run("inspect", cache, "--label-noise", "--where", 'id == "a"').stdout.splitlines()
    assert lines[0].startswith("least likely transcripts, by target lattice")
    assert [line.split()[2] for line in lines[3:]] == ["a"]


def test_progress_is_not_told_to_pipes(cache: Path) -> None:
    assert run("inspect", cache, "--label-noise").stderr == ""


def test_an_utterance_in_time(cache: Path) -> None:
    result = run("inspect", cache, "--utt", "a", "--frames", "1:3")
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["seconds", "frame", "label", "P", "likeliest", "other"] in lines
    assert [line[0] for line in lines[-2:]] == ["1", "2"]
    belief = data("inspect", cache, "--utt", "a", "--frames", "1:3")["belief"]
    assert [frame["frame"] for frame in belief["frames"]] == [1, 2]
    assert [token["id"] for token in belief["tokens"]] == [7, 9]
    assert len(data("inspect", cache, "--utt", "a")["belief"]["frames"]) == 5


def test_a_tokenizer_that_cannot_be_loaded_gives_numbers(cache: Path) -> None:
    result = run("inspect", cache, "--utt", "a")
    assert result.stderr.startswith("Labels are shown as numbers: ")
    assert result.exit_code == 0


# What users get wrong: one sentence, exit code 2, nothing on stdout


def refused(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    message = result.stderr.strip().splitlines()[-1]
    assert message.startswith("Error: ")
    return message


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--where", "import os"), "is no condition"),
        (("--where", "__import__('os')"), "does not understand"),
        (("--sort", "kl_ctc"), "no field 'kl_ctc'"),
        (("--sort", "text"), "takes a field of numbers"),
        (("--top", "0"), "--top"),
        (("--utt", "aa"), "Nearest: a"),
        (("--utt", "a", "--frames", "9:12"), "frames 0 to 4"),
        (("--utt", "a", "--sort", "kl"), "--utt shows one utterance"),
        (("--frames", "1:2"), "give --utt ID"),
    ],
)
def test_mistakes(cache: Path, options: tuple[str, ...], said: str) -> None:
    assert said in refused("inspect", cache, *options)


def test_the_first_lines_do_not_wait_for_the_last(cache: Path) -> None:
    from kdcache.cli.inspect import _summary_lines

    opened = open_cache(cache)
    seen: list[str] = []
    lines = _summary_lines(opened, digest=False)
    original = type(opened).catalogue_columns

    def watched(self: object, names: Any) -> Any:
        seen.extend(names)
        return original(self, names)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(opened), "catalogue_columns", watched)
        assert next(lines).startswith(str(cache))
        assert seen == []
        while not next(lines).strip().startswith("utterances"):
            assert seen == []
        assert seen == ["duration"]
        list(lines)
    assert "fidelity.lattice.kl_mean" in seen
