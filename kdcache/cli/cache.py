"""``kdcache status`` and ``verify``: is all there, and is it whole?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from kdcache.cli.plumbing import cache_argument, echo_json, echo_lines, example, json_option, say

if TYPE_CHECKING:
    from kdcache.inspect.coverage import Coverage
    from kdcache.store import Cache

COMPLETE, DAMAGED, INCOMPLETE = 0, 1, 3


@click.command(
    epilog=example(
        "kdcache status runs/cache",
        "kdcache status runs/cache --manifest data/train.jsonl --json",
        "kdcache status runs/cache --failures",
        "kdcache status s3://bucket/cache --events run.jsonl",
    )
)
@cache_argument
@click.option(
    "--manifest",
    type=click.Path(path_type=Path),
    help="The corpus that should be in CACHE: tells what is left of it.",
)
@click.option("--failures", is_flag=True, help="List every utterance that failed, and why.")
@click.option(
    "--events",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The events file of a run that keeps it elsewhere than in CACHE.",
)
@json_option
def status(
    cache: str, manifest: Path | None, failures: bool, events: Path | None, as_json: bool
) -> int:
    """Show how far an extraction is.

    Reads what is committed in CACHE, while extractions run or after them, on any machine that
    sees it. With a manifest the exit code is 3 until every utterance of it is in the cache. Of the
    last run it tells rate, time left and how it ended, as far as that run's events file says so.
    """
    from kdcache.inspect.runs import last_run, run_lines, state_of
    from kdcache.inspect.summary import outline
    from kdcache.inspect.text import failure_lines, status_lines
    from kdcache.store import open_cache

    opened = open_cache(cache)
    coverage = _coverage(opened, manifest) if manifest else None
    summary = outline(opened)
    run = state_of(events) if events else last_run(opened)
    listed = opened.failures.select(["id", "error", "message"]).to_pylist() if failures else []
    if as_json:
        names = ("path", "units", "utterances", "hours", "failed", "bytes")
        values = {name: value for name, value in summary.to_dict().items() if name in names}
        corpus = coverage.to_dict() if coverage else None
        told = {**values, "corpus": corpus, "run": run.to_dict() if run else None}
        echo_json({**told, **({"failures": listed} if failures else {})})
    else:
        lines = [*status_lines(summary, coverage), *(run_lines(run) if run else [])]
        echo_lines(lines + failure_lines(listed))
    return COMPLETE if coverage is None or coverage.complete else INCOMPLETE


def _coverage(cache: Cache, manifest: Path) -> Coverage:
    from kdcache.corpus import read_manifest
    from kdcache.inspect.coverage import measure_coverage

    return measure_coverage(cache, read_manifest(manifest))


@click.command(epilog=example("kdcache verify runs/cache"))
@cache_argument
@json_option
def verify(cache: str, as_json: bool) -> int:
    """Check every stored byte of a cache.

    Reads all files of CACHE and compares them with the hashes that were written with them.
    What is damaged is named by file and utterance; the exit code is then 1.
    """
    from kdcache.cli.progress import progress
    from kdcache.store import verify as verify_cache

    with progress("Verifying", unit="files") as shown:
        damage = verify_cache(cache, shown.update)
    if as_json:
        keys = ("file", "utterance", "what")
        found = [{key: getattr(item, key) for key in keys} for item in damage]
        echo_json({"path": cache, "clean": not damage, "damage": found})
    else:
        for item in damage:
            spoilt = f", utterance {item.utterance}" if item.utterance else ""
            click.echo(f"{item.file}{spoilt}: {item.what}")
        say(f"{cache}: {len(damage)} damaged" if damage else f"{cache}: clean")
    return DAMAGED if damage else COMPLETE
