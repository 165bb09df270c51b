"""The whole way in minutes: speech → teacher → cache → students → table."""

from __future__ import annotations

from kdcache.demo.recipe import Recipe, load_recipe
from kdcache.demo.run import run_demo

__all__ = ["Recipe", "load_recipe", "run_demo"]
