"""``kdcache extract``: a teacher over a corpus, into a cache."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from kdcache.cli.plumbing import config_argument, echo_json, example, json_option, say, set_option

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from kdcache.cli.progress import Stages
    from kdcache.extract import ExtractReport, Snapshot
    from kdcache.extract.errand import Survey


@click.command(
    epilog=example(
        "kdcache extract extract.yaml",
        "kdcache extract extract.yaml --set cache.layout=webdataset --set actors=4",
        "kdcache extract extract.yaml --max-kl 0.001",
        "kdcache extract extract.yaml --retry-failed",
    )
)
@config_argument
@click.option(
    "--max-kl",
    metavar="NATS",
    help="Choose what CONFIG leaves open: the cheapest settings that lose no more a frame or node.",
)
@click.option(
    "--retry-failed", is_flag=True, help="Try again what failed in earlier runs of the command."
)
@set_option
@json_option
def extract(
    config: Path,
    max_kl: str | None,
    retry_failed: bool,
    overrides: tuple[str, ...],
    as_json: bool,
) -> int:
    """Run a teacher over a corpus into a cache.

    CONFIG (YAML) names the teacher, the corpus, the targets and the cache. Teacher actors run
    on this machine, or on the Ray cluster at ray.address. An utterance that cannot be used is
    recorded with its reason, and the others go on.

    The same command resumes after anything; it does what is missing and nothing else. Exit
    code 0 means that every utterance of the corpus is in the cache, 3 that some are not: the
    report says which and why, and with --retry-failed, the same as --set retry_failed=true,
    the command tries these again. A storage that fails is waited for; a full one ends the run.

    What happens is kept in an events file, a JSON object a line: in the folder runs/ of a cache
    that lies in a directory, else where --set events=FILE says. kdcache status reads it.

    With --max-kl, the same as --set max_kl=NATS, settings of targets that CONFIG does not fix
    are chosen when a cache is begun: a teacher actor hears sample_utterances of the corpus,
    and of all settings that were tried the smallest is taken whose mean divergence stays
    within the goal. What was picked and why is told and kept in the cache.
    """
    from kdcache.cli.progress import stages
    from kdcache.config import load_config
    from kdcache.extract import ExtractConfig, run_extract

    given = overrides if max_kl is None else (*overrides, f"max_kl={max_kl}")
    anyway = ("retry_failed=true",) if retry_failed else ()
    settings = load_config(config, ExtractConfig, (*given, *anyway))
    with stages() as shown:
        report = run_extract(settings, watch_work(shown), watch_survey(shown))
    if as_json:
        echo_json(report.to_dict())
    else:
        click.echo("\n".join(report.lines()))
    return _exit_code(report, _command(config, given))


def watch_work(shown: Stages) -> Callable[[Snapshot], None]:
    """What shows how far an extraction is."""
    return lambda told: shown.update("extracting", "utterances", told.done, told.total, told.note)


def watch_survey(shown: Stages) -> Callable[[Survey], None]:
    """What shows how far a look at a sample is, and what was chosen by it."""
    from kdcache.inspect.choices import choice_lines

    def watch(told: Survey) -> None:
        if not told.choices:
            shown.update(told.label, told.unit, told.done, told.total)
            return
        shown.close()
        say("\n".join(line for choice in told.choices for line in choice_lines(choice)))

    return watch


def _command(config: Path, overrides: tuple[str, ...]) -> str:
    """The command as a shell takes it."""
    return shlex.join(["kdcache", "extract", str(config), *(f"--set={o}" for o in overrides)])


def _exit_code(report: ExtractReport, command: str) -> int:
    """0 complete, 3 incomplete, and as shells have it where a signal ended the run."""
    from kdcache.errors import IncompleteCacheError

    if report.stopped_by is not None and report.left:
        say(f"Stopped with {len(report.left)} utterances left; the same command resumes.")
        return 128 + report.stopped_by
    if report.complete:
        return 0
    raise IncompleteCacheError(" ".join(_what_is_missing(report, command)))


def _what_is_missing(report: ExtractReport, command: str) -> Iterator[str]:
    """How much, and what to do about it."""
    if report.absent:
        yield (
            f"{report.absent} of {report.utterances} utterances are not in the cache, for the "
            "reasons above."
        )
    if report.bad_lines:
        yield f"{len(report.bad_lines)} line(s) of the manifest could not be used."
    if report.failed:
        yield f"After mending them, try them again: {command} --retry-failed"
    else:
        yield f"The same command does the others: {command}"
