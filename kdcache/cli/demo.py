"""`kdcache demo`: the whole way, on this machine, in minutes."""

from __future__ import annotations

import json
from pathlib import Path

import click

from kdcache.cli.plumbing import echo_json, example, json_option, set_option
from kdcache.cli.progress import progress


@click.command(epilog=example("kdcache demo --out build/demo --layout webdataset"))
@click.option("--real", is_flag=True, help="Recorded digits instead of synthesised speech.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("kdcache-demo"),
    show_default=True,
    help="Folder to work in.",
)
@click.option(
    "--layout",
    type=click.Choice(["zarr", "webdataset"]),
    default="zarr",
    show_default=True,
    help="How the cache's shards are stored.",
)
@click.option("--save", type=click.Path(path_type=Path), help="Write the figures here as well.")
@set_option
@json_option
def demo(
    real: bool, out: Path, layout: str, save: Path | None, overrides: tuple[str, ...], as_json: bool
) -> None:
    """Train a teacher, cache what it believes, train students with and without the cache.

    Everything happens in OUT: corpus, tokenizer, teacher, cache, students, and for each
    stage the YAML with which `kdcache extract` or `kdcache train` repeats it. A demo that
    was killed goes on when the same command is given again. --set overrides the recipe, such
    as --set student.loss.lattice_kl=0.05.
    """
    from kdcache.demo import load_recipe, run_demo
    from kdcache.demo.table import demo_table

    recipe = load_recipe("real" if real else "synthesised", overrides)
    result = run_demo(recipe, out, layout, progress)
    if save is not None:
        save.parent.mkdir(parents=True, exist_ok=True)
        save.write_text(json.dumps(result.to_dict(), indent=2) + "\n", encoding="utf-8")
    if as_json:
        echo_json(result.to_dict())
    else:
        click.echo(demo_table(result))
