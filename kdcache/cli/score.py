"""`kdcache score`: word error rate, size and speed of a trained student."""

from __future__ import annotations

import json
from pathlib import Path

import click

from kdcache.cli.plumbing import echo_json, example, json_option
from kdcache.cli.progress import progress


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
@click.option("--hypotheses", type=click.Path(path_type=Path), help="Write texts here, as JSON.")
@json_option
def score(
    run: Path, manifest: Path, batch_size: int, hypotheses: Path | None, as_json: bool
) -> None:
    """Decode MANIFEST with the student of RUN (a run's or a student's directory).

    Prints the word error rate with its 95 % bootstrap interval, the number of parameters,
    the bytes of the weights and the real-time factor on this machine.
    """
    from kdcache.corpus import read_manifest
    from kdcache.score import score_student
    from kdcache.score.text import score_lines
    from kdcache.student import load_student

    folder = run / "student" if (run / "student").is_dir() else run
    utterances = read_manifest(manifest)
    with progress("Scoring", len(utterances), "utterances") as shown:
        report = score_student(
            load_student(folder),
            utterances,
            weights=folder / "model.safetensors",
            batch_size=batch_size,
            progress=lambda done, total: shown.update(done, total),
        )
    values = report.to_dict()
    texts = values.pop("hypotheses")
    if hypotheses is not None:
        text = json.dumps(texts, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
        hypotheses.write_text(text, encoding="utf-8")
    if as_json:
        echo_json(values)
    else:
        click.echo("\n".join(score_lines(report)))
