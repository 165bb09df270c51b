"""Where recipes are: folders with a ``pipeline.yaml``.

In a source tree ``kdcache/recipes`` is a link to ``pipelines/``; in a wheel it is a copy.
"""

from __future__ import annotations

from pathlib import Path

import kdcache
from kdcache.config.document import read_document
from kdcache.errors import ConfigError, did_you_mean
from kdcache.pipeline.recipe import FILE


def default_recipes() -> Path:
    """The recipes that come with the package (``pipelines/`` of a source tree)."""
    return Path(kdcache.__file__).resolve().parent / "recipes"


def list_recipes(recipes: Path) -> list[str]:
    """Names of the recipes in a folder, sorted."""
    return sorted(path.parent.name for path in recipes.glob(f"*/{FILE}"))


def title_of(name: str, recipes: Path) -> str:
    """A recipe's title; its stages are not looked at, which would import what they need."""
    return str(read_document(recipes / name / FILE).data.get("title", ""))


def find_recipe(name: str, recipes: Path) -> Path:
    """The folder of the recipe ``name``.

    Raises:
        ConfigError: there is none.
    """
    if (recipes / name / FILE).is_file() and name in list_recipes(recipes):
        return recipes / name
    known = list_recipes(recipes)
    listed = f"known are {', '.join(known)}." if known else "there is none at all."
    raise ConfigError(
        f"There is no recipe {name!r} in {recipes}; {listed}{did_you_mean(name, known)}"
    )
