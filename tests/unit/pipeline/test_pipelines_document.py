"""docs/pipelines.md: its recipe is a recipe, and its tables name what there is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kdcache.pipeline import load_recipe, make_plan
from kdcache.pipeline.folders import FILE
from kdcache.pipeline.registry import KINDS, kind_of
from tests.command_lines import check_command, commands_in

if TYPE_CHECKING:
    from pathlib import Path


def page(repository: Path) -> str:
    return (repository / "docs" / "pipelines.md").read_text(encoding="utf-8")


def test_the_recipe_of_the_page_is_right(repository: Path, tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", page(repository), re.DOTALL)
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / FILE).write_text(text)
    whole = make_plan(load_recipe(tmp_path / "x"), tmp_path / "out")
    small = make_plan(load_recipe(tmp_path / "x", small=True), tmp_path / "out")
    assert len(whole.jobs) == 4 + 6 + 6 + 1
    assert len(small.jobs) == 4 + 2 + 2 + 1


def test_the_page_has_every_kind_and_its_settings(repository: Path) -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", page(repository), re.MULTILINE))
    assert rows.keys() == KINDS.keys()
    for name in ("corpus", "tokenizer", "score", "table"):
        told = set(re.findall(r"`([a-z_]+)`", rows[name].rpartition(" | ")[0]))
        assert told == kind_of(name).model.model_fields.keys()


def test_commands_of_the_pages_exist(repository: Path) -> None:
    recipes = ("efficient_rnnt", "two_pass")
    for name in ("pipelines/README.md", *(f"pipelines/{recipe}/README.md" for recipe in recipes)):
        found = commands_in((repository / name).read_text(encoding="utf-8"))
        assert found
        for words in found:
            check_command(words)
