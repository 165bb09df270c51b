"""``kdcache ls`` and ``cat``: utterances of a cache and their arrays, for pipes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from kdcache.cli.plumbing import (
    cache_argument,
    echo_json_line,
    example,
    json_line,
    sink,
    where_option,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kdcache.inspect.fields import Field, Fields
    from kdcache.store import Cache

_TOGETHER = 4096
"""Rows that are looked up at once: the first are printed at once."""


@click.command(
    epilog=example(
        "kdcache ls runs/cache | head",
        "kdcache ls runs/cache --where 'kl > 0.01' --fields id,duration,kl,text",
    )
)
@cache_argument
@where_option
@click.option(
    "--fields", default="id", show_default=True, help="What to print, as of inspect --where."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines: an object an utterance.")
def ls(cache: str, where: str | None, fields: str, as_json: bool) -> None:
    """List the utterances of a cache.

    One utterance of CACHE a line, in order of id, with a tab between two fields. Of a catalogue
    of any size the first lines come at once.
    """
    from kdcache.inspect.fields import Fields
    from kdcache.store import open_cache

    opened = open_cache(cache)
    known = Fields(opened)
    asked = [known.find(name.strip()) for name in fields.split(",")]
    for row in _rows(opened, known, asked, where):
        if as_json:
            echo_json_line(row)
        else:
            click.echo("\t".join(_cell(row[field.name]) for field in asked))


def _rows(
    cache: Cache, fields: Fields, asked: list[Field], where: str | None
) -> Iterator[dict[str, object]]:
    from kdcache.inspect.select import matching_rows

    unique = list({field.name: field for field in asked}.values())
    for rows_N in matching_rows(cache, where):
        for start in range(0, len(rows_N), _TOGETHER):
            yield from fields.take(rows_N[start : start + _TOGETHER], unique)


def _cell(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        return f"{value:.0f}"
    return "" if value is None else " ".join(str(value).split())


@click.command(
    epilog=example(
        "kdcache cat runs/cache 1188-133604-0003 --target lattice | jq '.\"lattice.logp\"[0]'",
        "kdcache cat runs/cache 1188-133604-0003 --format npz --out one.npz",
        "kdcache cat runs/cache 1188-133604-0003 --format arrow > one.arrows",
    )
)
@cache_argument
@click.argument("ids", metavar="ID", nargs=-1, required=True)
@click.option("--target", "targets", multiple=True, help="Of this target alone; may be repeated.")
@click.option("--packed", is_flag=True, help="Arrays as they are stored, not decoded.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["json", "npz", "arrow"]),
    default="json",
    show_default=True,
    help="JSON lines, a file for numpy.load, or an Arrow stream.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="Write to this file.  [standard output]"
)
def cat(
    cache: str,
    ids: tuple[str, ...],
    targets: tuple[str, ...],
    packed: bool,
    form: str,
    out: Path | None,
) -> None:
    """Print decoded arrays of utterances.

    Of each ID of CACHE all arrays of its targets, named as lattice.logp: log-probabilities are
    natural, ids are class ids, and docs/format.md tells the axes. JSON has no infinity: null
    stands for the log of zero. Members of an npz are named ID/lattice.logp.
    """
    from kdcache.inspect.arrays import Arrays
    from kdcache.inspect.formats import to_json, write_arrow, write_npz
    from kdcache.store import open_cache

    opened = open_cache(cache)
    opened = opened.only(ids[0]) if len(ids) == 1 else opened
    arrays = Arrays(opened, targets, packed=packed)
    rows = [opened.row_of(key) for key in ids]
    if form == "json" and out is None:
        for key, row in zip(ids, rows, strict=True):
            echo_json_line(to_json(key, arrays.read(row)))
        return
    with sink(out) as file:
        if form == "arrow":
            write_arrow(file, opened, rows, arrays)
        elif form == "npz":
            write_npz(file, ((key, arrays.read(row)) for key, row in zip(ids, rows, strict=True)))
        else:
            for key, row in zip(ids, rows, strict=True):
                file.write(json_line(to_json(key, arrays.read(row))).encode())
