"""Two passes over a manifest: what is reported, by the functions, the command and the stage."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import torch
from click.testing import CliRunner

from kdcache.cli.main import main
from kdcache.corpus import load_tokenizer, read_manifest, write_manifest
from kdcache.errors import ConfigError, InputError
from kdcache.network.decoder_settings import DecoderSettings
from kdcache.pipeline.kind import Work
from kdcache.pipeline.kinds.rescore import RescoreKind, RescoreSettings
from kdcache.score.counts import read_counts
from kdcache.score.report import count_parameters
from kdcache.score.rescore import WEIGHTS
from kdcache.score.two_pass import hypotheses_of, report_two_pass, score_two_pass
from kdcache.student import build_student, load_student, save_student
from kdcache.student.settings import StudentSettings

if TYPE_CHECKING:
    from pathlib import Path

    from kdcache.student import Student
    from kdcache.types import Utterance

SIZES = StudentSettings(
    hidden=16,
    layers=1,
    heads=2,
    joint=16,
    subsampling_channels=4,
    dropout=0,
    rescorer=DecoderSettings(width=16, layers=1, heads=2),
)


@pytest.fixture(scope="module")
def folder(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student with random weights, made talkative: there are hypotheses to choose from."""
    torch.manual_seed(1)
    student = build_student(SIZES, load_tokenizer(tones / "tokenizer"))
    with torch.no_grad():
        student.model.joint.head.weight.mul_(6)
        student.model.joint.head.bias[student.blank] += 2
        student.rescorer.out.weight.mul_(6)
    return save_student(student, tmp_path_factory.mktemp("two-pass") / "student")


@pytest.fixture(scope="module")
def student(folder: Path) -> Student:
    return load_student(folder)


@pytest.fixture(scope="module")
def halves(tones: Path, folder: Path) -> tuple[list[Utterance], list[Utterance]]:
    """Utterances to score, and others to choose the weight on; manifests lie by the student."""
    utterances = read_manifest(tones / "train.jsonl")
    test, dev = utterances[:6], utterances[6:10]
    write_manifest(folder.parent / "test.jsonl", test)
    write_manifest(folder.parent / "dev.jsonl", dev)
    return test, dev


def test_what_is_reported_is_what_was_chosen(
    student: Student, halves: tuple[list[Utterance], list[Utterance]]
) -> None:
    test, _ = halves
    found = hypotheses_of(student, test, beam=4, batch_size=4)
    assert found.lists.keys() == {u.id for u in test}
    reports = {w: report_two_pass(student, test, found, weight=w) for w in WEIGHTS}
    assert reports[0.0].hypotheses == reports[0.0].first_hypotheses
    assert reports[0.0].rescored == reports[0.0].first
    assert reports[1.0].hypotheses != reports[1.0].first_hypotheses
    assert all(r.oracle.wer <= min(r.first.wer, r.rescored.wer) for r in reports.values())
    assert reports[1.0].parameters > count_parameters(student)


def test_the_weight_is_chosen_on_other_utterances(
    student: Student, halves: tuple[list[Utterance], list[Utterance]]
) -> None:
    test, dev = halves
    shown: list[tuple[int, int]] = []
    report = score_two_pass(
        student, test, tune_on=dev, beam=4, progress=lambda *place: shown.append(place)
    )
    found = hypotheses_of(student, dev, beam=4)
    rates = {w: report_two_pass(student, dev, found, weight=w).rescored.wer for w in WEIGHTS}
    assert report.weight == min(w for w in WEIGHTS if rates[w] == min(rates.values()))
    assert shown[-1] == (10, 10)


def test_utterances_cannot_be_both(
    student: Student, halves: tuple[list[Utterance], list[Utterance]]
) -> None:
    test, dev = halves
    with pytest.raises(InputError, match=rf"{dev[0].id!r} is among those to choose the weight on"):
        score_two_pass(student, [*test, dev[0]], tune_on=dev)
    with pytest.raises(InputError, match="holds no utterances"):
        score_two_pass(student, [])


def test_a_student_without_a_second_pass(
    tones: Path, halves: tuple[list[Utterance], list[Utterance]]
) -> None:
    sizes = SIZES.model_copy(update={"rescorer": None})
    plain = build_student(sizes, load_tokenizer(tones / "tokenizer")).eval()
    with pytest.raises(ConfigError, match=r"has no rescorer.*student\.rescorer and loss\.attent"):
        score_two_pass(plain, halves[0])


def test_the_command(folder: Path, halves: tuple[list[Utterance], list[Utterance]]) -> None:
    manifests = folder.parent / "test.jsonl", folder.parent / "dev.jsonl"
    words = ["score", str(folder), str(manifests[0]), "--rescore", "--beam", "4"]
    run = CliRunner().invoke(main, [*words, "--dev", str(manifests[1]), "--json"])
    assert run.exit_code == 0, run.output
    values = json.loads(run.stdout)
    assert values.keys() >= {"first", "rescored", "oracle", "weight", "parameters"}
    run = CliRunner().invoke(main, [*words, "--weight", "0"])
    lines = dict(line.split(maxsplit=1) for line in run.stdout.splitlines())
    assert lines["weight"].startswith("0.00 of the second pass")
    assert lines["rescored"] == run.stdout.splitlines()[0].removeprefix("first pass").strip()


def test_the_stage_writes_both_passes(
    folder: Path, tmp_path: Path, halves: tuple[list[Utterance], list[Utterance]]
) -> None:
    settings = RescoreSettings(
        student=folder,
        manifest=folder.parent / "test.jsonl",
        dev=folder.parent / "dev.jsonl",
        labels={"stages": "1+2"},
        beam=4,
    )
    display = SimpleNamespace(update=lambda *_: None)
    work = Work("x", tmp_path, tmp_path, {"seed": 3}, lambda *_: nullcontext(display))
    facts = RescoreKind().run(settings, work)
    outputs = RescoreKind().outputs(settings, tmp_path)
    second, first = read_counts(outputs["rescored"]), read_counts(outputs["first"])
    assert first.labels == {"stages": "1+2", "seed": 3, "pass": "first"}
    assert second.labels == {**first.labels, "pass": "rescored"}
    assert (facts["first"], facts["rescored"]) == (first.wer, second.wer)
    assert second.figures["nearest"] <= min(first.wer, second.wer)
    assert second.figures["parameters"] > first.figures["parameters"]


def test_an_utterance_shorter_than_any_label(
    student: Student, halves: tuple[list[Utterance], list[Utterance]]
) -> None:
    """Two frames have room for an empty hypothesis, if nothing else."""
    one = halves[0][0]
    brief = replace(one, audio=replace(one.audio, duration=0.09))
    (found,) = hypotheses_of(student, [brief], beam=2).lists.values()
    assert 1 <= len(found) <= 2
