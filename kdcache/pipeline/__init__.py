"""Recipes: stages that make one another's inputs, run once and resumed after anything."""

from __future__ import annotations

from kdcache.pipeline.folders import default_recipes, find_recipe, list_recipes, title_of
from kdcache.pipeline.kind import StageKind, Work
from kdcache.pipeline.plan import Job, Plan, make_plan
from kdcache.pipeline.recipe import Recipe, load_recipe
from kdcache.pipeline.run import Outcome, run_plan

__all__ = [
    "Job",
    "Outcome",
    "Plan",
    "Recipe",
    "StageKind",
    "Work",
    "default_recipes",
    "find_recipe",
    "list_recipes",
    "load_recipe",
    "make_plan",
    "run_plan",
    "title_of",
]
