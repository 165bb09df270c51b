"""``kdcache report``: a cache as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from kdcache.cli.plumbing import cache_argument, check_place, example, say, sink

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kdcache.cli.sound_of import SoundOf
    from kdcache.inspect.page import Shown
    from kdcache.store import Cache

PATH = click.Path(path_type=Path)

ROOM = 32 * 2**20
"""Bytes of all pictures and audio in a page; what is more is left out, which is said."""


@click.command(
    epilog=example(
        "kdcache report runs/cache -o report.html",
        "kdcache report runs/cache -o report.html --sort duration --top 10 --manifest train.jsonl",
    )
)
@cache_argument
@click.option("-o", "--out", type=PATH, required=True, help="The HTML file to write.")
@click.option(
    "--sort",
    metavar="FIELD",
    help="The worst have most FIELD, as of inspect --sort.  [kl, else duration]",
)
@click.option(
    "--top",
    metavar="N",
    type=click.IntRange(min=0, max=100),
    default=5,
    show_default=True,
    help="Show so many of the worst utterances, and of the best, in full.",
)
@click.option(
    "--sample",
    metavar="N",
    type=click.IntRange(min=0, max=100),
    default=3,
    show_default=True,
    help="Show so many of the others, evenly spaced in order of id.",
)
@click.option(
    "--manifest", type=PATH, help="Where the audio is; unless given, the cache's own if it has any."
)
def report(
    cache: str, out: Path, sort: str | None, top: int, sample: int, manifest: Path | None
) -> None:
    """Write a page about a cache.

    One HTML file about CACHE that needs no network and no server: its summary; how durations,
    labels and divergences are distributed over all utterances; the worst, the best and some of
    the others with pictures (see `kdcache plot`) and audio to play where there is some; and a
    table to search and sort. The table has up to 1,000 utterances, of a larger cache those of
    both ends and a sample, which the page says. The same cache gives the same page. Needs
    matplotlib: pip install 'kdcache[plot]'.
    """
    from kdcache.cli.progress import progress
    from kdcache.cli.sound_of import SoundOf
    from kdcache.inspect.page import page
    from kdcache.inspect.report import read_report
    from kdcache.store import open_cache

    opened = open_cache(cache)
    check_place(out)
    found = read_report(opened, sort, top, sample)
    ids = [*found.worst, *found.best, *found.sample]
    sounds = SoundOf(opened, manifest, ids)
    with progress("Drawing", unit="utterances", log=False) as shown:
        drawn = _show(opened, ids, sounds, lambda done: shown.update(done, len(ids)))
    written = page(found, drawn).encode()
    with sink(out) as file:
        file.write(written)
    say(f"{out}: {len(written):,} bytes")


def _show(
    cache: Cache, ids: Sequence[str], sounds: SoundOf, tell: Callable[[int], None]
) -> dict[str, Shown]:
    """Pictures and audio, while there is room for it."""
    from kdcache.cli.spelling import speller
    from kdcache.corpus.audio import encode_flac, to_int16
    from kdcache.errors import AudioError, ConfigError, DamagedCacheError
    from kdcache.inspect.page import Shown
    from kdcache.inspect.picture import read_picture
    from kdcache.inspect.plot import draw

    found: dict[str, Shown] = {}
    spell, room = speller(cache), ROOM
    texts = cache.catalogue_columns(["text"])["text"]
    for done, key in enumerate(ids, 1):
        notes, sound, picture, audio = [], None, None, None
        try:
            sound = sounds.read(key)
        except (AudioError, DamagedCacheError) as error:
            notes.append(f"no audio: {error.message}")
        try:
            picture = draw(read_picture(cache, key, spell, sound), "png")
        except (ConfigError, DamagedCacheError) as error:
            notes.append(error.message)
        if sound is not None:
            audio = encode_flac(to_int16(sound.samples_N), sound.rate)
        size = len(picture or b"") + len(audio or b"")
        if size > room:
            picture = audio = None
            notes.append("Its picture and audio were left out, to keep this page small.")
        else:
            room -= size
        text = texts[cache.row_of(key)].as_py() or ""
        found[key] = Shown(text, picture, audio, " ".join(notes))
        tell(done)
    return found
