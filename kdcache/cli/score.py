"""`kdcache score`: word error rate, size and speed of a trained student."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kdcache.cli.plumbing import echo_json, example, json_option
from kdcache.cli.progress import progress

if TYPE_CHECKING:
    from kdcache.score import ScoreReport
    from kdcache.score.two_pass import TwoPassReport
    from kdcache.types import Utterance


@click.command(epilog=example("kdcache score runs/small data/test.jsonl"))
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("manifest", type=click.Path(path_type=Path))
@click.option(
    "--batch-size",
    default=16,
    show_default=True,
    type=click.IntRange(min=1),
    help="Utterances decoded at once.",
)
@click.option(
    "--rescore",
    is_flag=True,
    help="Decode twice: the n best of a beam search, then the student's rescorer.",
)
@click.option(
    "--dev",
    type=click.Path(path_type=Path),
    help="With --rescore: choose the second pass's weight on this manifest.",
)
@click.option(
    "--weight",
    default=0.5,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="With --rescore and without --dev: that weight.",
)
@click.option(
    "--beam",
    default=8,
    show_default=True,
    type=click.IntRange(min=1),
    help="With --rescore: label sequences that stay after each frame.",
)
@click.option("--hypotheses", type=click.Path(path_type=Path), help="Write texts here, as JSON.")
@json_option
def score(
    run: Path,
    manifest: Path,
    batch_size: int,
    rescore: bool,
    dev: Path | None,
    weight: float,
    beam: int,
    hypotheses: Path | None,
    as_json: bool,
) -> None:
    """Decode MANIFEST with the student of RUN (a run's or a student's directory).

    Prints the word error rate with its 95 % bootstrap interval, the number of parameters,
    the bytes of the weights and the real-time factor on this machine. With --rescore: the word
    error rates of the first pass, of the second, and of the n best that are nearest to the
    transcripts.
    """
    from kdcache.corpus import read_manifest
    from kdcache.score.text import score_lines, two_pass_lines

    folder = run / "student" if (run / "student").is_dir() else run
    utterances = read_manifest(manifest)
    if rescore:
        tune_on = read_manifest(dev) if dev is not None else []
        twice = _rescored(folder, utterances, tune_on, batch_size, weight=weight, beam=beam)
        values, lines = twice.to_dict(), two_pass_lines(twice)
        del values["first_hypotheses"]
    else:
        report = _scored(folder, utterances, batch_size)
        values, lines = report.to_dict(), score_lines(report)
    texts = values.pop("hypotheses")
    if hypotheses is not None:
        text = json.dumps(texts, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
        hypotheses.write_text(text, encoding="utf-8")
    if as_json:
        echo_json(values)
    else:
        click.echo("\n".join(lines))


def _scored(folder: Path, utterances: list[Utterance], batch_size: int) -> ScoreReport:
    from kdcache.score import score_student
    from kdcache.student import load_student
    from kdcache.student.packing import weights_file

    with progress("Scoring", len(utterances), "utterances") as shown:
        return score_student(
            load_student(folder),
            utterances,
            weights=weights_file(folder),
            batch_size=batch_size,
            progress=lambda done, total: shown.update(done, total),
        )


def _rescored(
    folder: Path,
    utterances: list[Utterance],
    tune_on: list[Utterance],
    batch_size: int,
    *,
    weight: float,
    beam: int,
) -> TwoPassReport:
    from kdcache.score.two_pass import score_two_pass
    from kdcache.student import load_student

    with progress("Rescoring", len(utterances) + len(tune_on), "utterances") as shown:
        return score_two_pass(
            load_student(folder),
            utterances,
            tune_on=tune_on,
            weight=weight,
            beam=beam,
            batch_size=batch_size,
            progress=lambda done, total: shown.update(done, total),
        )
