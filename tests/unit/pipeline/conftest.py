"""A recipe of fake stages, and how to run it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from kdcache.pipeline import Outcome, Plan, load_recipe, make_plan, run_plan
from kdcache.pipeline.folders import FILE
from tests.unit.pipeline.fake_kinds import LOG

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WRITE = "tests.unit.pipeline.fake_kinds:Write"

RECIPE: dict[str, Any] = {
    "title": "Fake stages",
    "params": {"word": "hello", "seeds": [0, 1]},
    "stages": {
        "first": {"kind": WRITE, "settings": {"text": "${params.word}"}},
        "each": {
            "kind": WRITE,
            "for_each": {
                "arm": {"a": {"mark": "!"}, "b": {"mark": "?"}},
                "seed": "${params.seeds}",
            },
            "settings": {"text": "${arm}${seed}${arm.mark}", "read": ["${first}"]},
        },
        "after": {"kind": WRITE, "for_each": "each", "settings": {"read": ["${each}"]}},
        "last": {"kind": WRITE, "settings": {"read": ["${after[*].file}"]}},
    },
    "small": {"params": {"seeds": [7]}, "stages": {"each": {"for_each": {"arm": {"b": None}}}}},
}


class Pipeline:
    """A recipe's folder and the folder of its runs."""

    def __init__(self, folder: Path) -> None:
        self.recipes, self.out = folder / "recipes", folder / "out"
        self.said: list[str] = []
        self.write(RECIPE)

    @property
    def folder(self) -> Path:
        return self.recipes / "fake"

    def write(self, recipe: dict[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / FILE).write_text(yaml.safe_dump(recipe, sort_keys=False))

    def plan(self, *overrides: str, small: bool = False) -> Plan:
        return make_plan(load_recipe(self.folder, small=small, overrides=overrides), self.out)

    def run(self, *overrides: str, **how: Any) -> list[str]:
        """Names of the jobs that were run."""
        self.said.clear()
        outcomes = run_plan(self.plan(*overrides), quiet, self.said.append, **how)
        return ran(outcomes)

    def began(self) -> list[str]:
        """Names of the jobs in the order in which they began to work, in all runs."""
        return (self.out / LOG).read_text().split()

    def text(self, job: str) -> str:
        return (self.out / job / "file.txt").read_text()


def ran(outcomes: list[Outcome]) -> list[str]:
    return [outcome.job for outcome in outcomes if outcome.state == "run"]


class Silence:
    """A display that shows nothing."""

    def update(self, done: float, total: float | None = None, note: str = "") -> None:
        assert done >= 0


@contextmanager
def quiet(label: str, total: float | None = None, unit: str = "") -> Iterator[Silence]:
    yield Silence()


@pytest.fixture
def fake(tmp_path: Path) -> Pipeline:
    return Pipeline(tmp_path)
