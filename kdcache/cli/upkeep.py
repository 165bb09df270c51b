"""``kdcache repair``, ``gc`` and ``compact``: keeping a cache sound, tidy and quick to open."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from kdcache.cli.plumbing import (
    cache_argument,
    echo_json,
    example,
    json_option,
    say,
    set_option,
)
from kdcache.errors import ConfigError, DamagedCacheError, IncompleteCacheError

if TYPE_CHECKING:
    from kdcache.extract import RepairReport


@click.command(
    epilog=example(
        "kdcache repair runs/cache --config extract.yaml",
        "kdcache repair runs/cache",
    )
)
@cache_argument
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="The configuration that CACHE was extracted with: do again what was damaged.",
)
@set_option
@json_option
def repair(cache: str, config: Path | None, overrides: tuple[str, ...], as_json: bool) -> int:
    """Take damaged shards out of a cache, and extract them again.

    Reads all of CACHE, as `kdcache verify` does. The commit of each damaged shard is moved to
    CACHE/quarantine with what was found; nothing is deleted. Its utterances are then no
    longer in the cache, so that training goes on without them. With --config the extraction
    does exactly these shards again, and a damaged header or tokenizer is written anew; the
    content digest afterwards is that of the undamaged cache.

    No extraction may run on CACHE meanwhile. Exit code 3 means that utterances are missing
    until the extraction is run, 1 that something is left that only --config can mend.
    """
    from kdcache.cli.extract import watch_survey, watch_work
    from kdcache.cli.progress import progress, stages
    from kdcache.config import load_config
    from kdcache.extract import ExtractConfig, run_repair
    from kdcache.extract.repair import check_same_cache
    from kdcache.store import find_damage

    if overrides and config is None:
        raise ConfigError("--set overrides a setting of a configuration; name it with --config")
    settings = load_config(config, ExtractConfig, overrides) if config else None
    if settings is not None:
        check_same_cache(cache, settings)
    with progress("Verifying", unit="files") as shown:
        findings = find_damage(cache, shown.update)
    with stages() as work:
        report = run_repair(cache, findings, settings, watch_work(work), watch_survey(work))
    if as_json:
        echo_json(report.to_dict())
    else:
        click.echo("\n".join(report.lines()))
    return _exit_code(report)


def _exit_code(report: RepairReport) -> int:
    """0 where everything is sound and there."""
    if report.extraction is not None and report.extraction.stopped_by is not None:
        say("Stopped; the same command goes on.")
        return 128 + report.extraction.stopped_by
    if report.unmended:
        raise DamagedCacheError(
            f"{', '.join(report.unmended)} of {report.cache} cannot be mended without the "
            "configuration that it was extracted with: give it with --config"
        )
    if report.awaited:
        raise IncompleteCacheError(
            f"what {len(report.awaited)} damaged shard(s) of {report.cache} held is missing from "
            "it now; `kdcache repair` with --config, or `kdcache extract`, brings it back"
        )
    return 0


@click.command(
    epilog=example(
        "kdcache gc runs/cache",
        "kdcache gc runs/cache --delete",
    )
)
@cache_argument
@click.option("--delete", is_flag=True, help="Delete what is listed.")
@click.option(
    "--grace",
    metavar="HOURS",
    type=click.FloatRange(min=0),
    default=24.0,
    show_default=True,
    help="Leave alone what was written within so many hours.",
)
@click.option("--quarantine", is_flag=True, help="Count what repair has set aside as well.")
@json_option
def gc(cache: str, delete: bool, grace: float, quarantine: bool, as_json: bool) -> None:
    """List, or delete, files of a cache that nothing refers to.

    Extractions that were killed or beaten leave such files in CACHE; they do no harm but take
    room. Without --delete they are only listed, because a shard that an extraction is writing
    at this moment looks the same: the grace must be longer than a unit of work takes. What
    `kdcache repair` has set aside is kept, as it may be all that is left of an utterance,
    unless --quarantine says otherwise.
    """
    from kdcache.store import collect_garbage, find_garbage

    act = collect_garbage if delete else find_garbage
    found = act(cache, grace * 3600, quarantine=quarantine)
    size = sum(entry.size for entry in found)
    if as_json:
        files = [{"file": entry.key, "bytes": entry.size} for entry in found]
        echo_json({"path": cache, "deleted": delete, "bytes": size, "files": files})
        return
    for entry in found:
        click.echo(f"{entry.key}  {entry.size}")
    done = "deleted" if delete else "could be deleted with --delete"
    say(f"{cache}: {len(found)} files, {size} bytes {done}" if found else f"{cache}: no garbage")


@click.command(epilog=example("kdcache compact runs/cache"))
@cache_argument
@json_option
def compact(cache: str, as_json: bool) -> None:
    """Gather the catalogue of a large cache, so that it opens at once.

    The catalogue of CACHE is a file a unit of work. This writes what they say into a few
    sorted files beside them, which are mapped when CACHE is opened: no time or memory by the
    row. Nothing else is changed. Units that are committed later are read on top; run it again
    after an extraction.
    """
    from dataclasses import asdict

    from kdcache.cli.progress import progress
    from kdcache.store import compact as compact_cache

    with progress("Gathering", unit="units") as shown:
        report = compact_cache(cache, shown.update)
    if as_json:
        echo_json({"path": cache, **asdict(report)})
        return
    click.echo(
        f"{cache}: {report.utterances} utterances of {report.units} units in {report.files} files, "
        f"{report.bytes} bytes"
    )
