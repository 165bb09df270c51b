"""``kdcache compare``: two caches of the same utterances, side by side."""

from __future__ import annotations

import click

from kdcache.cli.plumbing import echo_json, echo_lines, example, json_option


@click.command(
    epilog=example(
        "kdcache compare runs/cache runs/cache-small",
        "kdcache compare runs/cache runs/cache-small --top 20",
        "kdcache compare runs/cache runs/cache-small --utterances 200 --json",
    )
)
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option(
    "--utterances",
    metavar="N",
    type=click.IntRange(min=1),
    help="Compare N of the utterances in common, evenly spaced; all unless given.",
)
@click.option(
    "--top",
    metavar="N",
    type=click.IntRange(min=0),
    default=5,
    show_default=True,
    help="Of each target name so many of the utterances that differ most.",
)
@json_option
def compare(a: str, b: str, utterances: int | None, top: int, as_json: bool) -> None:
    """Compare two caches of the same utterances.

    Of two teachers, or of two ways to keep one: bytes per hour of audio, and how far what B
    gives back is from what A does, of each target that both hold. Of posteriors that is the
    divergence KL(A ‖ B) over all classes, in nats per frame, node or token, and how often the
    likeliest class differs; of lattices, at the nodes that both keep; of vectors, the absolute
    error. Best paths differ in when they say a label (lattices), or in what they say (CTC of an
    encoder's posteriors, and hypotheses). The utterances that differ most are named; --json has
    every one.
    """
    from kdcache.cli.progress import progress
    from kdcache.inspect.compare import compare as compare_caches
    from kdcache.inspect.compare_text import comparison_lines
    from kdcache.store import open_cache

    with progress("Comparing", unit="utterances", log=False) as shown:
        found = compare_caches(open_cache(a), open_cache(b), utterances, shown.update)
    if as_json:
        echo_json(found.to_dict())
    else:
        echo_lines(comparison_lines(found, top))
