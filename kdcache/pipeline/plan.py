"""A recipe multiplied out: one job for each combination, with checked settings and known places.

Every job's outputs have their places before anything runs, so that all settings of all stages
are checked first, and a mistake in the last stage does not cost the time of the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from kdcache.config.document import Document
from kdcache.config.mistakes import config_error
from kdcache.config.settings import FOLDER
from kdcache.errors import ConfigError
from kdcache.pipeline.merge import merged
from kdcache.pipeline.places import from_prompt
from kdcache.pipeline.references import References
from kdcache.pipeline.registry import kind_of
from kdcache.pipeline.substitute import substituted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from kdcache.config import Settings
    from kdcache.config.document import Location
    from kdcache.pipeline.kind import StageKind
    from kdcache.pipeline.recipe import LoadedRecipe, StageSettings


@dataclass(frozen=True, slots=True)
class Job:
    """One stage of one combination.

    Attributes:
        name: ``student/plain/0``: the stage, then the values of its variables.
        stage: the name in the recipe.
        kind_name, kind: what it does.
        variables: by name, the value or the value's name.
        settings: checked.
        place: its folder.
        outputs: by name, where they will be.
        reads: the outputs that it reads, as (job, output).
    """

    name: str
    stage: str
    kind_name: str
    kind: StageKind[Any]
    variables: dict[str, Any]
    settings: Settings
    place: Path
    outputs: dict[str, Path]
    reads: tuple[tuple[str, str], ...]

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the jobs whose outputs it reads."""
        return tuple(dict.fromkeys(name for name, _ in self.reads))


@dataclass(frozen=True, slots=True)
class Plan:
    """Jobs in the order in which they run.

    Attributes:
        recipe: what was multiplied out.
        out: the folder of the run.
        jobs: each after those that it needs.
    """

    recipe: LoadedRecipe
    out: Path
    jobs: tuple[Job, ...]

    def of_stage(self, name: str) -> list[Job]:
        """The jobs of a stage, or the one job of that name.

        Raises:
            ConfigError: there is none.
        """
        found = [job for job in self.jobs if name in (job.stage, job.name)]
        if not found:
            known = list(dict.fromkeys(job.stage for job in self.jobs))
            raise ConfigError(f"There is no stage {name!r}; the stages are {', '.join(known)}.")
        return found

    def needed_by(self, jobs: Iterable[Job]) -> list[Job]:
        """Those jobs and all that they read from, in order."""
        wanted = {job.name for job in jobs}
        for job in reversed(self.jobs):
            if job.name in wanted:
                wanted.update(job.needs)
        return [job for job in self.jobs if job.name in wanted]

    def fed_by(self, jobs: Iterable[Job]) -> list[Job]:
        """Those jobs and all that read from them, in order."""
        wanted = {job.name for job in jobs}
        for job in self.jobs:
            if wanted.intersection(job.needs):
                wanted.add(job.name)
        return [job for job in self.jobs if job.name in wanted]


def make_plan(loaded: LoadedRecipe, out: Path) -> Plan:
    """Multiply out a recipe, for a run in ``out``.

    Raises:
        ConfigError: a stage's settings are wrong, or refer to what is not there.
    """
    out = out.absolute()
    jobs: list[Job] = []
    for name, stage in loaded.recipe.stages.items():
        kind = kind_of(stage.kind)
        for variables, values in _combinations(stage):
            jobs.append(_job(loaded, out, name, stage.kind, kind, (variables, values), jobs))
    return Plan(loaded, out, tuple(jobs))


def _combinations(stage: StageSettings) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Of each: the variables by name, and what stands behind a dot after them."""
    choices = [
        [(variable, name, inner) for name, inner in _named(values)]
        for variable, values in stage.for_each.items()
    ]
    for chosen in product(*choices):
        yield (
            {variable: value for variable, value, _ in chosen},
            {variable: inner for variable, _, inner in chosen},
        )


def _named(values: Any) -> Iterable[tuple[Any, dict[str, Any]]]:
    """Each value of a variable with the settings that its name stands for, if it is a name."""
    return values.items() if isinstance(values, dict) else ((value, {}) for value in values)


def _job(
    loaded: LoadedRecipe,
    out: Path,
    name: str,
    kind_name: str,
    kind: StageKind[Any],
    chosen: tuple[dict[str, Any], dict[str, Any]],
    earlier: list[Job],
) -> Job:
    variables, inner = chosen
    full = "/".join([name, *map(str, variables.values())])
    place = out.joinpath(*full.split("/"))
    references = References(loaded.recipe, variables, inner, earlier)
    try:
        raw = _written(loaded, name, kind_name, kind)
        values = kind.complete(substituted(raw, references.lookup), place)
    except ConfigError as error:
        raise ConfigError(f"{loaded.document.name}, stage {full}: {error.message}") from None
    settings = _checked(loaded, name, full, kind, values)
    outputs = kind.outputs(settings, place)
    reads = tuple(references.reads)
    return Job(full, name, kind_name, kind, variables, settings, place, outputs, reads)


def _written(
    loaded: LoadedRecipe, name: str, kind_name: str, kind: StageKind[Any]
) -> dict[str, Any]:
    """The stage's settings over those that its kind shares; paths typed at a prompt resolved."""
    stage = loaded.recipe.stages[name]
    values: dict[str, Any] = merged(loaded.recipe.defaults.get(kind_name, {}), stage.settings)
    for above in (("defaults", kind_name), ("stages", name, "settings")):
        for place in loaded.overrides:
            if place[: len(above)] == above:
                values = from_prompt(values, place[len(above) :], kind.model)
    return values


def _checked(
    loaded: LoadedRecipe, name: str, full: str, kind: StageKind[Any], values: dict[str, Any]
) -> Settings:
    try:
        return kind.model.model_validate(values, context={FOLDER: loaded.folder})
    except ValidationError as error:
        document, set_by = _part(loaded, ("stages", name, "settings"), full)
        raise config_error(error, kind.model, document, set_by) from None


def _part(loaded: LoadedRecipe, above: Location, full: str) -> tuple[Document, dict[Location, str]]:
    """The part of the file that holds a stage's settings, as a document of its own."""
    depth = len(above)
    lines = {at[depth:]: n for at, n in loaded.document.lines.items() if at[:depth] == above}
    set_by = {at[depth:]: arg for at, arg in loaded.overrides.items() if at[:depth] == above}
    return Document(f"{loaded.document.name}, stage {full}", {}, lines), set_by
