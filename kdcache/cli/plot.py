"""``kdcache plot``: a picture of what the teacher believed of one utterance."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import click

from kdcache.cli.plumbing import cache_argument, example, say, sink

if TYPE_CHECKING:
    from kdcache.inspect.picture import Sound
    from kdcache.store import Cache

PATH = click.Path(path_type=Path)

FULL_SCALE = 32768.0
"""Of 16-bit samples."""


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
    from kdcache.cli.spelling import speller
    from kdcache.errors import ConfigError
    from kdcache.inspect.picture import read_picture
    from kdcache.inspect.plot import draw, parse_format
    from kdcache.inspect.utterance import summarise_utterance
    from kdcache.store import open_cache

    path = Path(f"{quote(utterance, safe=' ')}.png") if out is None else out
    form = parse_format(path)
    opened = open_cache(cache)
    found = summarise_utterance(opened, utterance)
    if found.error is not None:
        raise ConfigError(
            f"there is nothing to draw of {utterance!r}: it failed ({found.message}); "
            "name one that `kdcache ls` lists."
        )
    sound = _sound(opened, utterance, manifest)
    drawn = draw(read_picture(opened, utterance, speller(opened), sound), form, sound_as)
    with sink(path) as file:
        file.write(drawn)
    say(f"{path}: {utterance}")


def _sound(cache: Cache, key: str, manifest: Path | None) -> Sound | None:
    """Audio from the corpus if it is named, else from the cache if it has any."""
    from kdcache.cli.audio_of import AudioOf
    from kdcache.corpus.audio import decode_flac, load_audio
    from kdcache.inspect.picture import Sound

    if manifest is not None:
        heard = AudioOf(cache, manifest, Path()).utterance(cache.row_of(key))
        if heard is None:
            say(f"{key} is not in {manifest}: it is drawn without audio.")
            return None
        rate = cache.spec.teacher.sample_rate
        return Sound(load_audio(heard.audio, rate), rate)
    if cache.spec.audio == "none":
        return None
    samples_N, rate = decode_flac(cache.audio(key))
    return Sound(samples_N.astype("float32") / FULL_SCALE, rate)
