"""`kdcache pipeline`: recipes of published systems, stage by stage."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kdcache.cli.plumbing import echo_json, example, json_option, say, set_option
from kdcache.cli.progress import progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from kdcache.pipeline import Plan

_RUNS = Path("kdcache-pipelines")


@click.group(epilog=example("kdcache pipeline run efficient_rnnt --small"))
def pipeline() -> None:
    """Run a recipe of pipelines/: teacher, caches, students and a table of all of them."""


def recipes_option(command: Callable[..., None]) -> Callable[..., None]:
    """``--recipes DIR``, as the argument ``recipes``."""
    return click.option(
        "--recipes",
        metavar="DIR",
        type=click.Path(path_type=Path),
        help="Folder of recipes; those that come with kdcache if left out.",
    )(command)


def small_option(command: Callable[..., None]) -> Callable[..., None]:
    """``--small``, as the argument ``small``."""
    return click.option(
        "--small", is_flag=True, help="The recipe's quick form: it ends in minutes."
    )(command)


def out_option(command: Callable[..., None]) -> Callable[..., None]:
    """``--out DIR``, as the argument ``out``."""
    return click.option(
        "--out",
        metavar="DIR",
        type=click.Path(path_type=Path),
        help=f"Folder to work in; {_RUNS}/NAME if left out, {_RUNS}/NAME-small if small.",
    )(command)


@pipeline.command("list", epilog=example("kdcache pipeline list"))
@recipes_option
@json_option
def list_them(recipes: Path | None, as_json: bool) -> None:
    """List the recipes."""
    from kdcache.pipeline import default_recipes, list_recipes, title_of

    folder = recipes or default_recipes()
    titles = {name: title_of(name, folder) for name in list_recipes(folder)}
    if as_json:
        echo_json(titles)
        return
    width = max(map(len, titles), default=0)
    for name, title in titles.items():
        click.echo(f"{name.ljust(width)}  {title}")


@pipeline.command(epilog=example("kdcache pipeline show efficient_rnnt --small"))
@click.argument("name")
@small_option
@out_option
@recipes_option
@set_option
@json_option
def show(
    name: str,
    small: bool,
    out: Path | None,
    recipes: Path | None,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show the stages of the recipe NAME, and what each of them reads; nothing is run."""
    plan = _plan(name, small, out, recipes, overrides)
    if as_json:
        jobs = [
            {
                "name": job.name,
                "kind": job.kind_name,
                "reads": [f"{need}.{output}" for need, output in job.reads],
                "settings": job.settings.model_dump(mode="json", exclude_defaults=True),
            }
            for job in plan.jobs
        ]
        echo_json({"title": plan.recipe.recipe.title, "out": str(plan.out), "stages": jobs})
        return
    click.echo(f"{plan.recipe.recipe.title}\n{len(plan.jobs)} stages in {plan.out}")
    width = max(len(job.name) for job in plan.jobs)
    for job in plan.jobs:
        click.echo(f"  {job.name.ljust(width)}  {job.kind_name:9}  {', '.join(job.needs)}".rstrip())


@pipeline.command(
    epilog=example(
        "kdcache pipeline run efficient_rnnt --small",
        "kdcache pipeline run efficient_rnnt --set params.steps=900 --from student",
        "kdcache pipeline run efficient_rnnt --set ray=false --jobs 2",
    )
)
@click.argument("name")
@small_option
@out_option
@click.option(
    "--stage",
    "only",
    metavar="STAGE",
    multiple=True,
    help="Only this stage, and what it needs. May be given many times.",
)
@click.option(
    "--from",
    "anew",
    metavar="STAGE",
    multiple=True,
    help="Make this stage again, and all that read from it, though nothing has changed.",
)
@click.option(
    "--jobs",
    "at_once",
    metavar="N",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Stages that run at once, each in a process with its share of the CPUs; those under a "
    "Ray on this machine wait for each other.",
)
@recipes_option
@set_option
@json_option
def run(
    name: str,
    small: bool,
    out: Path | None,
    only: tuple[str, ...],
    anew: tuple[str, ...],
    at_once: int,
    recipes: Path | None,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Run the recipe NAME.

    A stage that is done is not done again unless its settings or what it reads have changed;
    then it is made anew, and the old one is kept under set-aside/. A run that was killed goes
    on when the same command is given again. --set overrides the recipe, such as
    --set params.steps=900 or --set stages.teacher.settings.seed=1.
    """
    from kdcache.pipeline import run_plan

    plan = _plan(name, small, out, recipes, overrides)
    outcomes = run_plan(
        plan, progress, say, only=only, anew=anew, command=_typed(), at_once=at_once
    )
    done = {outcome.job for outcome in outcomes}
    if as_json:
        echo_json({"out": str(plan.out), "stages": [outcome.to_dict() for outcome in outcomes]})
        return
    for job in plan.jobs:
        if job.name in done and (text := job.kind.text(job.settings, job.place)):
            click.echo(text)


def _plan(
    name: str, small: bool, out: Path | None, recipes: Path | None, overrides: tuple[str, ...]
) -> Plan:
    from kdcache.pipeline import default_recipes, find_recipe, load_recipe, make_plan

    folder = find_recipe(name, recipes or default_recipes())
    loaded = load_recipe(folder, small=small, overrides=overrides)
    return make_plan(loaded, out or _RUNS / (f"{name}-small" if small else name))


def _typed() -> str:
    """The command line as it was typed, by the program's name alone."""
    return shlex.join(["kdcache", *sys.argv[1:]])
