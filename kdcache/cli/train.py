"""`kdcache train`: a student from a cache, or a first teacher from a corpus."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kdcache.cli.plumbing import config_argument, echo_json, example, json_option, set_option
from kdcache.cli.progress import progress

if TYPE_CHECKING:
    from pathlib import Path


@click.command(epilog=example("kdcache train student.yaml --set loss.lattice_kl=0.01"))
@config_argument
@set_option
@json_option
def train(config: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Train the student that CONFIG (YAML) describes, under Ray Train.

    The student learns from a cache; no teacher is loaded. With a corpus in place of a cache
    it learns from transcripts alone, which is how a first teacher is made. A run that was
    killed goes on from its last checkpoint when the same command is given again; one that is
    told to stop (^C, SIGTERM) writes one first.
    """
    from kdcache.config import load_config
    from kdcache.train import TrainSettings, note_of, run_training

    settings = load_config(config, TrainSettings, overrides)
    with progress("Training", settings.optim.steps, "steps") as shown:
        report = run_training(settings, lambda now: shown.update(now["step"], note=note_of(now)))
    if as_json:
        echo_json(report.to_dict())
    else:
        click.echo(
            f"{report.student}: {report.steps} steps, loss {report.loss:.4f}, "
            f"{report.stall:.1%} of the time waiting for data"
        )
        if report.validation is not None and settings.validation is not None:
            metric = settings.validation.metric
            click.echo(
                f"{report.best}: best validation, {metric} {report.validation[metric]:.4f} at "
                f"step {report.validation['step']}"
            )
        if report.damaged:
            click.echo(
                f"Skipped {report.damaged} damaged utterances; `kdcache verify "
                f"{settings.data.cache}` names them.",
                err=True,
            )
