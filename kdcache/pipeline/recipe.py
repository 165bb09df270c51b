"""What a recipe is: a YAML document of stages, read with its overlay for small runs.

title: …
params:   {steps: 400}               values that any stage may name as ${params.steps}
defaults: {train: {…}}               settings that all stages of a kind share
stages:
  teacher: {kind: train, settings: {…}}
  student: {kind: train, for_each: {arm: {…}, seed: [0, 1]}, settings: {…}}
small:    {params: {steps: 40}}      the same document once more, of what is different there
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError, field_validator

from kdcache.config import Settings
from kdcache.config.document import Document, Location, read_document
from kdcache.config.mistakes import config_error
from kdcache.config.overrides import apply_overrides
from kdcache.errors import ConfigError, did_you_mean
from kdcache.pipeline.merge import merged
from kdcache.pipeline.registry import kind_of
from kdcache.pipeline.substitute import follow

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FILE = "pipeline.yaml"
SMALL = "small"

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
"""Of stages and values of ``for_each``: folders are called by them."""

_PARAM = re.compile(r"\$\{params\.([^${}]+)\}")

RESERVED = ("params", "set-aside")

Scalar = str | int | float | bool


class StageSettings(Settings):
    """A stage as a recipe writes it; it may stand for many that differ in a few values."""

    kind: str
    """What it does: ``train``, ``extract`` and so on, or ``module:Class`` of a kind of your own."""

    for_each: dict[str, tuple[Scalar, ...] | dict[str, dict[str, Any]]] = Field(default={})
    """By variable, the values that it takes, in a list; or names, each with settings that
    ``${variable.setting}`` gives. There is one stage for each combination. The name of another
    stage stands for what that one has."""

    settings: dict[str, Any] = Field(default={})
    """Of its kind; ``${…}`` stands for variables, parameters and outputs of stages above."""

    @field_validator("for_each")
    @classmethod
    def _named(cls, value: dict[str, Any]) -> dict[str, Any]:
        for variable, values in value.items():
            if not variable.isidentifier() or variable in RESERVED:
                raise ValueError(f"should have variables that are identifiers, got {variable!r}")
            if not values:
                raise ValueError(f"should have at least one value of {variable!r}")
            for name in values:
                if not NAME.fullmatch(str(name)):
                    raise ValueError(
                        f"should have values of {variable!r} that can name a folder, got {name!r}"
                    )
        return value


class Recipe(Settings):
    """A pipeline."""

    title: str
    """What it is about, in a line."""

    params: dict[str, Any] = Field(default={})
    """Values by name, for ``${params.name}``."""

    defaults: dict[str, dict[str, Any]] = Field(default={})
    """By kind, settings that its stages have unless they say otherwise."""

    ray: bool = True
    """Whether trainings of one worker run under Ray Train as well. Without it they run in the
    process of the command, which begins at once; students are the same."""

    stages: dict[str, StageSettings] = Field(min_length=1)
    """By name, in the order in which they run."""

    @field_validator("stages")
    @classmethod
    def _named(cls, value: dict[str, StageSettings]) -> dict[str, StageSettings]:
        for name in value:
            if not name.isidentifier() or name in RESERVED:
                raise ValueError(f"should have names of stages that are identifiers, got {name!r}")
        return value


@dataclass(frozen=True, slots=True)
class LoadedRecipe:
    """A recipe, and where it was read from.

    Attributes:
        name: of its folder.
        recipe: checked.
        document: the file, with the line of each setting.
        overrides: ``--set`` arguments by the place that each one sets.
        folder: relative paths are taken from it.
        small: whether the overlay for small runs lies over it.
    """

    name: str
    recipe: Recipe
    document: Document
    overrides: dict[Location, str]
    folder: Path
    small: bool


def load_recipe(
    folder: Path, *, small: bool = False, overrides: Sequence[str] = ()
) -> LoadedRecipe:
    """Read a recipe's folder.

    Args:
        folder: with a ``pipeline.yaml``.
        small: lay its ``small`` over it.
        overrides: ``stages.teacher.settings.optim.steps=5`` each.

    Raises:
        ConfigError: one sentence for each mistake, with its place.
    """
    document = read_document(folder / FILE)
    data, lines = dict(document.data), dict(document.lines)
    overlay = data.pop(SMALL, None) or {}
    if small:
        data = merged(data, overlay)
        lines |= {place[1:]: n for place, n in lines.items() if place[:1] == (SMALL,) and place[1:]}
    data, set_by = apply_overrides(data, overrides, Recipe)
    found = Document(document.name, data, lines)
    data = _spelt_out(data)
    try:
        recipe = Recipe.model_validate(data)
    except ValidationError as error:
        raise config_error(error, Recipe, found, set_by) from None
    for kind in (*(stage.kind for stage in recipe.stages.values()), *recipe.defaults):
        kind_of(kind)
    return LoadedRecipe(folder.absolute().name, recipe, found, set_by, folder.absolute(), small)


def _spelt_out(data: dict[str, Any]) -> dict[str, Any]:
    """The document with each stage's ``for_each`` in full, as far as it can be read at all."""
    stages = data.get("stages")
    if not isinstance(stages, dict):
        return data
    full = {name: _with_for_each(name, stages, data.get("params") or {}) for name in stages}
    return {**data, "stages": full}


def _with_for_each(name: str, stages: dict[str, Any], params: dict[str, Any]) -> Any:
    """A stage whose ``for_each`` names no other stage and has its parameters replaced.

    Raises:
        ConfigError: it names no stage above it, or no parameter.
    """
    stage, seen = stages[name], {name}
    found = stage.get("for_each") if isinstance(stage, dict) else None
    while isinstance(found, str):
        if found not in stages or found in seen or not isinstance(stages[found], dict):
            raise ConfigError(
                f"The stage {name} has for_each: {found}, expected variables or the name of "
                f"another stage.{did_you_mean(found, stages)}"
            )
        seen.add(found)
        found = stages[found].get("for_each", {})
    if not isinstance(found, dict):
        return stage
    spelt = {variable: _without_nulls(_param(value, params)) for variable, value in found.items()}
    return {**stage, "for_each": spelt}


def _without_nulls(values: Any) -> Any:
    """Names without those that an override took away: ``--set …for_each.arm.plain=null``."""
    if not isinstance(values, dict):
        return values
    return {name: inner for name, inner in values.items() if inner is not None}


def _param(value: Any, params: dict[str, Any]) -> Any:
    """``${params.seeds}`` as what it stands for; all else as it is."""
    match = _PARAM.fullmatch(value) if isinstance(value, str) else None
    return follow(params, match[1], "params") if match else value
