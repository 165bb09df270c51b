"""``kdcache extract``: a teacher over a corpus, into a cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kdcache.cli.plumbing import config_argument, echo_json, example, json_option, say, set_option

if TYPE_CHECKING:
    from pathlib import Path

    from kdcache.extract import ExtractReport


@click.command(
    epilog=example(
        "kdcache extract extract.yaml",
        "kdcache extract extract.yaml --set cache.layout=webdataset --set actors=4",
    )
)
@config_argument
@set_option
@json_option
def extract(config: Path, overrides: tuple[str, ...], as_json: bool) -> int:
    """Run a teacher over a corpus into a cache.

    CONFIG (YAML) names the teacher, the corpus, the targets and the cache. Teacher actors run
    on this machine, or on the Ray cluster at ray.address. An utterance that cannot be used is
    recorded with its reason, and the others go on.

    The same command resumes after anything; it does what is missing and nothing else. Exit
    code 0 means that every utterance of the corpus is in the cache, 3 that some are not.
    """
    from kdcache.cli.progress import progress
    from kdcache.config import load_config
    from kdcache.extract import ExtractConfig, Snapshot, run_extract

    settings = load_config(config, ExtractConfig, overrides)
    with progress("extracting", unit="utterances") as shown:

        def watch(snapshot: Snapshot) -> None:
            shown.update(snapshot.done, snapshot.total, snapshot.note)

        report = run_extract(settings, watch)
    if as_json:
        echo_json(report.to_dict())
    else:
        click.echo("\n".join(report.lines()))
    return _exit_code(report)


def _exit_code(report: ExtractReport) -> int:
    """0 complete, 3 incomplete, and as shells have it where a signal ended the run."""
    from kdcache.errors import IncompleteCacheError

    if report.stopped_by is not None and report.left:
        say(f"Stopped with {len(report.left)} utterances left; the same command resumes.")
        return 128 + report.stopped_by
    if report.complete:
        return 0
    raise IncompleteCacheError(
        f"{report.absent} of {report.utterances} utterances are not in the cache, for the reasons "
        "above. After mending them, run the same command with --set retry_failed=true."
    )
