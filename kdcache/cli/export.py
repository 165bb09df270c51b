"""``kdcache export``: utterances of a cache for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from kdcache.cli.plumbing import cache_argument, example, say, sink, where_option, writing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kdcache.cli.audio_of import AudioOf
    from kdcache.cli.progress import Progress
    from kdcache.corpus.exporters import Attached, Pseudo
    from kdcache.inspect.arrays import Arrays
    from kdcache.store import Cache

PATH = click.Path(path_type=Path)


@click.command(
    epilog=example(
        "kdcache export runs/cache sure.parquet --where 'kl < 0.001' --target lattice",
        "kdcache export runs/cache pseudo.jsonl --to nemo --manifest train.jsonl",
        "kdcache export runs/cache cuts --to lhotse --manifest train.jsonl",
    )
)
@cache_argument
@click.argument("out", metavar="OUT", type=PATH)
@click.option(
    "--to",
    "form",
    type=click.Choice(["parquet", "nemo", "lhotse"]),
    default="parquet",
    show_default=True,
    help="What OUT is to be.",
)
@where_option
@click.option("--target", "targets", multiple=True, help="Arrays of this target alone; repeatable.")
@click.option("--packed", is_flag=True, help="Arrays as they are stored, not decoded.")
@click.option(
    "--manifest",
    type=PATH,
    help="Where the audio is; unless given, the cache's own is written beside OUT.",
)
def export(
    cache: str,
    out: Path,
    form: str,
    where: str | None,
    targets: tuple[str, ...],
    packed: bool,
    manifest: Path | None,
) -> None:
    """Write utterances of a cache for other tools.

    Of CACHE, to OUT: a Parquet file with a row an utterance and its arrays; a NeMo manifest
    whose texts are what the teacher would have written (its best hypothesis, or the best class
    of each frame by CTC); or a folder with Lhotse cuts that have the arrays attached.
    """
    from kdcache.cli.progress import progress
    from kdcache.inspect.arrays import Arrays
    from kdcache.inspect.select import select
    from kdcache.store import open_cache

    opened = open_cache(cache)
    arrays = Arrays(opened, targets, packed=packed)
    rows: list[int] = select(opened, where).rows_N.tolist()
    with progress("Exporting", unit="utterances", log=False) as shown:
        if form == "parquet":
            count = _write_parquet(out, opened, _told(rows, shown), arrays)
        else:
            count = _write_with_audio(form, opened, (out, manifest), _told(rows, shown), arrays)
    say(f"{out}: {count:,} of {len(opened):,} utterances")


def _told(rows: list[int], shown: Progress) -> Iterator[int]:
    """The rows, one by one."""
    for done, row in enumerate(rows, 1):
        yield row
        shown.update(done, len(rows))


def _write_parquet(out: Path, cache: Cache, rows: Iterator[int], arrays: Arrays) -> int:
    from kdcache.inspect.formats import write_parquet

    with sink(out) as file:
        return write_parquet(file, cache, rows, arrays)


def _write_with_audio(
    form: str,
    cache: Cache,
    places: tuple[Path, Path | None],
    rows: Iterator[int],
    arrays: Arrays,
) -> int:
    from kdcache.cli.audio_of import AudioOf
    from kdcache.corpus.exporters import write_lhotse, write_pseudo_labels

    out, manifest = places
    folder = out / "audio" if form == "lhotse" else out.with_suffix("")
    audio = AudioOf(cache, manifest, folder)
    if form == "nemo":
        items = _pseudo_labels(cache, rows, audio)
        with sink(out) as file:
            count = write_pseudo_labels(file, out.resolve().parent, items)
    else:
        with writing(out):
            out.mkdir(parents=True, exist_ok=True)
            count = write_lhotse(out, _attached(cache, rows, audio, arrays))
    if audio.missing:
        say(f"{audio.missing:,} utterances are not in {manifest} and were left out.")
    return count


def _pseudo_labels(cache: Cache, rows: Iterator[int], audio: AudioOf) -> Iterator[Pseudo]:
    from kdcache.cli.spelling import speller
    from kdcache.corpus.exporters import Pseudo
    from kdcache.inspect.pseudo import PseudoLabels

    labels, spell = PseudoLabels(cache), speller(cache)
    for row in rows:
        utterance = audio.utterance(row)
        if utterance is not None:
            said, log_p = labels.read(row)
            yield Pseudo(utterance, spell(said), log_p, audio.duration(row))


def _attached(
    cache: Cache, rows: Iterator[int], audio: AudioOf, arrays: Arrays
) -> Iterator[Attached]:
    from kdcache.corpus.exporters import Attached

    tokens = cache.catalogue_columns(["tokens"])["tokens"]
    for row in rows:
        utterance = audio.utterance(row)
        if utterance is not None:
            yield Attached(
                utterance,
                audio.duration(row),
                tokens[row].as_py(),
                arrays.read(row),
                arrays.timed,
                cache.spec.teacher.frame_shift,
            )
