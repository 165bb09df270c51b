"""``kdcache plot``: a picture of what the teacher believed of one utterance."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import click

from kdcache.cli.plumbing import cache_argument, check_place, example, say, sink

PATH = click.Path(path_type=Path)


@click.command(
    epilog=example(
        "kdcache plot runs/cache --utt 1188-133604-0003",
        "kdcache plot runs/cache --utt 1188-133604-0003 -o one.svg --manifest train.jsonl",
    )
)
@cache_argument
@click.option("--utt", "utterance", metavar="ID", required=True, help="The utterance to draw.")
@click.option(
    "-o", "--out", type=PATH, help="A .png or .svg file.  [ID.png in the working directory]"
)
@click.option(
    "--manifest", type=PATH, help="Where the audio is; unless given, the cache's own if it has any."
)
@click.option(
    "--audio",
    "sound_as",
    type=click.Choice(["spectrogram", "waveform"]),
    default="spectrogram",
    show_default=True,
    help="How to draw audio.",
)
def plot(
    cache: str, utterance: str, out: Path | None, manifest: Path | None, sound_as: str
) -> None:
    """Draw what the teacher believed of an utterance.

    Of what CACHE holds of it, over time: its audio; the encoder's posteriors, of the classes
    that matter; the lattice, each node as bright as the share of the teacher's paths through
    it, with the likeliest path and the edges of a band; and entropy, with marks where teacher
    and transcript disagree. Where there is no audio, it is left out. The same utterance gives
    the same file. Needs matplotlib: pip install 'kdcache[plot]'.
    """
    from kdcache.cli.sound_of import SoundOf
    from kdcache.cli.spelling import speller
    from kdcache.errors import AudioError, ConfigError
    from kdcache.inspect.picture import read_picture
    from kdcache.inspect.plot import draw, parse_format
    from kdcache.inspect.utterance import summarise_utterance
    from kdcache.store import open_cache

    path = Path(f"{quote(utterance, safe=' ')}.png") if out is None else out
    form = parse_format(path)
    opened = open_cache(cache).only(utterance)
    found = summarise_utterance(opened, utterance)
    if found.error is not None:
        raise ConfigError(
            f"there is nothing to draw of {utterance!r}: it failed ({found.message}); "
            "name one that `kdcache ls` lists."
        )
    check_place(path)
    sounds = SoundOf(opened, manifest, [utterance])
    try:
        sound = sounds.read(utterance)
    except AudioError as error:
        say(f"Drawn without audio: {error.message}")
        sound = None
    picture = read_picture(opened, utterance, speller(opened), sound)
    for note in picture.belief.notes:
        say(f"Note: {note}.")
    drawn = draw(picture, form, sound_as)
    with sink(path) as file:
        file.write(drawn)
    say(f"{path}: {utterance}")
