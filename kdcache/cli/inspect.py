"""``kdcache inspect``: what is in a cache, which utterances, and what was believed of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kdcache.cli.plumbing import (
    cache_argument,
    echo_json,
    echo_lines,
    example,
    json_option,
    where_option,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kdcache.store import Cache


@click.command(
    epilog=example(
        "kdcache inspect runs/cache",
        "kdcache inspect runs/cache --sort kl --top 20",
        "kdcache inspect runs/cache --where 'duration > 20 and kl_lattice > 0.01' --json",
        "kdcache inspect runs/cache --label-noise --top 50",
        "kdcache inspect runs/cache --utt 1188-133604-0003 --frames 100:140",
    )
)
@cache_argument
@click.option("--utt", "utterance", metavar="ID", help="Show what was believed of this utterance.")
@click.option("--frames", metavar="A:B", help="Of --utt, show these frames one by one.")
@where_option
@click.option("--sort", metavar="FIELD", help="List utterances, the largest FIELD first.")
@click.option("--ascending", is_flag=True, help="Sort the smallest first.")
@click.option(
    "--label-noise",
    is_flag=True,
    help="List utterances whose transcript the teacher finds least likely, per label.",
)
@click.option(
    "--top",
    metavar="N",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="List so many utterances.",
)
@click.option("--digest", is_flag=True, help="Show the content digest as well.")
@json_option
def inspect(
    cache: str,
    utterance: str | None,
    frames: str | None,
    where: str | None,
    sort: str | None,
    ascending: bool,
    label_noise: bool,
    top: int,
    digest: bool,
    as_json: bool,
) -> None:
    """Show what a cache holds.

    Of CACHE: its teacher, tokenizer and targets, how they are packed, what that cost in bytes
    and lost in fidelity, and how to open it in Python. Fidelity is the divergence (kl, nats
    per node or frame) of the teacher's posteriors from what the cache gives back: over the
    kept classes (kl_mean, kl_max) and over the whole vocabulary (kl_full_mean, kl_full_max).
    Of a target that `kdcache convert` has packed again, source_… is what its first cache
    lost, and recode_… what packing it again did.

    Fields of --where and --sort are id, text, speaker, unit, duration (seconds), frames,
    labels, and measures of fidelity: lattice.kl_mean, or shorter kl_lattice, or kl of the
    first target that has it. Conditions are written as in Python, with and, or, not, in,
    is None, comparisons and arithmetic; nothing of them is executed.

    Of one utterance, --utt shows its labels in time, how likely the teacher found the
    transcript, where it would have written something else, and how sure it was. --label-noise
    takes that likelihood from a target of kind full_sum, or else reads every lattice.
    """
    from kdcache.store import open_cache

    _check_usage(utterance, frames, bool(where or sort or label_noise))
    opened = open_cache(cache)
    if utterance is not None:
        _show_utterance(opened.only(utterance), utterance, frames, as_json)
    elif label_noise:
        _show_noise(opened, where, top, as_json)
    elif where is not None or sort is not None:
        _show_selection(opened, where, (sort, ascending), top, as_json)
    elif as_json:
        from kdcache.inspect.summary import summarise

        echo_json(summarise(opened, digest=digest).to_dict())
    else:
        echo_lines(_summary_lines(opened, digest))


def _check_usage(utterance: str | None, frames: str | None, listing: bool) -> None:
    if utterance is None and frames is not None:
        raise click.UsageError("--frames is of one utterance: give --utt ID as well.")
    if utterance is not None and listing:
        raise click.UsageError("--utt shows one utterance: leave --where, --sort and so on away.")


def _summary_lines(cache: Cache, digest: bool) -> Iterator[str]:
    """The screen, each part as soon as it is known."""
    from kdcache.inspect.summary import identify, outline, summarise_target
    from kdcache.inspect.text import header_lines, outline_lines, python_lines, target_lines

    yield from header_lines(identify(cache))
    known = outline(cache, digest=digest)
    yield from outline_lines(known)
    targets = []
    for target in cache.spec.targets:
        targets.append(summarise_target(cache, target))
        yield from target_lines(targets[-1], known.hours)
    yield from python_lines(known, next(iter(cache), None), [target.name for target in targets])


def _show_utterance(cache: Cache, key: str, frames: str | None, as_json: bool) -> None:
    from kdcache.inspect.belief import read_belief
    from kdcache.inspect.belief_text import belief_lines
    from kdcache.inspect.frames import parse_frames
    from kdcache.inspect.text import utterance_lines
    from kdcache.inspect.utterance import summarise_utterance

    found = summarise_utterance(cache, key)
    shown = parse_frames(frames, found.frames) if frames is not None else None
    data, lines = found.to_dict(), utterance_lines(found)
    if found.error is None:
        from kdcache.cli.spelling import speller

        belief = read_belief(cache, key, speller(cache))
        told = belief.to_dict()
        if shown is not None:
            told["frames"] = told["frames"][shown.start : shown.stop]
        data, lines = {**data, "belief": told}, [*lines, *belief_lines(belief, shown)]
    _show(data, lines, as_json)


def _show_selection(
    cache: Cache, where: str | None, order: tuple[str | None, bool], top: int, as_json: bool
) -> None:
    from kdcache.inspect.listing import list_selection, listing_lines
    from kdcache.inspect.select import select

    selection = select(cache, where, order[0], top, ascending=order[1])
    listing = list_selection(cache, selection)
    _show(listing.to_dict(), listing_lines(listing), as_json)


def _show_noise(cache: Cache, where: str | None, top: int, as_json: bool) -> None:
    from kdcache.cli.progress import progress
    from kdcache.inspect.listing import noise_lines
    from kdcache.inspect.noise import find_noise

    with progress("Reading lattices", unit="utterances", log=False) as shown:
        noise = find_noise(cache, where, top, shown.update)
    _show(noise.to_dict(), noise_lines(noise), as_json)


def _show(data: dict[str, Any], lines: list[str], as_json: bool) -> None:
    if as_json:
        echo_json(data)
    else:
        echo_lines(lines)
