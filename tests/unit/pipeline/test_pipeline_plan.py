"""Recipes multiplied out, and one sentence for each mistake before anything is run."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest

from kdcache.errors import ConfigError
from kdcache.pipeline import default_recipes, find_recipe, list_recipes, load_recipe, make_plan
from kdcache.pipeline.merge import merged
from kdcache.pipeline.substitute import substituted
from tests.unit.pipeline.conftest import RECIPE, WRITE, Pipeline

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SHIPPED = list_recipes(default_recipes())


def changed(change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    recipe = copy.deepcopy(RECIPE)
    change(recipe)
    return recipe


def test_jobs_are_the_product_of_the_variables(fake: Pipeline) -> None:
    names = [job.name for job in fake.plan().jobs]
    assert names[1:5] == ["each/a/0", "each/a/1", "each/b/0", "each/b/1"]
    assert len(names) == 10


def test_the_small_form_is_laid_over(fake: Pipeline) -> None:
    names = [job.name for job in fake.plan(small=True).jobs]
    assert names == ["first", "each/a/7", "after/a/7", "last"]


def test_an_override_takes_an_arm_away(fake: Pipeline) -> None:
    names = [job.name for job in fake.plan("stages.each.for_each.arm.a=null").jobs]
    assert names == ["first", "each/b/0", "each/b/1", "after/b/0", "after/b/1", "last"]


def test_a_stage_reads_the_output_of_its_own_combination(fake: Pipeline) -> None:
    jobs = {job.name: job for job in fake.plan().jobs}
    assert jobs["after/b/1"].reads == (("each/b/1", "file"),)
    assert len(jobs["last"].needs) == 4


def test_numbers_stay_numbers(fake: Pipeline) -> None:
    recipe = changed(lambda r: r["params"].update(size=0.5, sizes={"x": "${params.size}"}))
    recipe["stages"]["first"]["settings"]["numbers"] = "${params.sizes}"
    fake.write(recipe)
    assert fake.plan().jobs[0].settings.model_dump()["numbers"] == {"x": 0.5}


def test_defaults_of_a_kind_lie_beneath(fake: Pipeline) -> None:
    fake.write({**RECIPE, "defaults": {WRITE: {"free": 4, "text": "shared"}}})
    first, *_, last = fake.plan().jobs
    assert (first.settings.model_dump()["free"], first.settings.model_dump()["text"]) == (
        4,
        "hello",
    )
    assert last.settings.model_dump()["text"] == "shared"


def test_paths_are_taken_from_the_recipe_or_from_the_prompt(
    fake: Pipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake.write(changed(lambda r: r["stages"]["first"]["settings"].update(read=["near.txt"])))
    assert fake.plan().jobs[0].settings.model_dump()["read"] == (fake.folder / "near.txt",)
    monkeypatch.chdir(tmp_path)
    for override in ("read.0=here.txt", "read=[here.txt]"):
        plan = fake.plan(f"stages.first.settings.{override}")
        assert plan.jobs[0].settings.model_dump()["read"] == (tmp_path / "here.txt",)


def set_first(**settings: Any) -> Callable[[dict[str, Any]], None]:
    return lambda recipe: recipe["stages"]["first"]["settings"].update(settings)


def set_stage(name: str, **values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda recipe: recipe["stages"].setdefault(name, {}).update(values)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (set_first(txt="x"), "stage first, line .*unknown setting 'txt'. Did you mean 'text'?"),
        (set_first(text="${params.wrd}"), "there is no 'wrd' there. Did you mean 'word'"),
        (set_first(text="${each}"), "the stage each does not come before this one; move it up"),
        (set_first(text="${frst}"), "no stage, variable or parameter 'frst'. Did you mean 'first'"),
        (set_first(text="${a b}"), "cannot be read; expected"),
        (set_first(text="${params.word"), "not closed"),
        (set_stage("after", settings={"read": ["${each.fil}"]}), "no output 'fil'; it has file"),
        (set_stage("last", settings={"read": ["${each}"]}), "fits 4 of the stages .* say which"),
        (set_stage("last", settings={"read": ["${each[arn=a]}"]}), "no variable 'arn'. Did you"),
        (set_stage("last", settings={"read": ["${each[a]}"]}), r"expected \[name=value,…\]"),
        (set_stage("last", settings={"text": "x${each[*]}"}), "stands for 4 values"),
        (set_stage("first", kind="trian"), "no kind of stage 'trian'; .* Did you mean 'train'"),
        (set_stage("first", kind="json:loads"), "is no kind of stage"),
        (set_stage("first", kind="no.such:Kind"), "cannot be imported"),
        (set_stage("after", for_each="eech"), "name of another stage. Did you mean 'each'"),
        (set_stage("after", for_each="after"), "expected variables or the name of another"),
        (set_stage("after", for_each={"arm": []}), "at least one value of 'arm'"),
        (set_stage("after", for_each={"arm": ["a/b"]}), "can name a folder, got 'a/b'"),
        (set_stage("not a name", kind=WRITE), "identifiers, got 'not a name'"),
        (set_stage("first", sttings={}), "unknown setting 'stages.first.sttings'. Did you mean"),
        (lambda recipe: recipe["params"].update(word="${params.word}"), "stands for itself"),
    ],
)
def test_a_mistake_is_told_in_one_sentence(
    fake: Pipeline, change: Callable[[dict[str, Any]], None], told: str
) -> None:
    fake.write(changed(change))
    with pytest.raises(ConfigError, match=told):
        fake.plan()
    assert not fake.out.exists()


def test_a_mistake_at_the_prompt_is_told_as_such(fake: Pipeline) -> None:
    with pytest.raises(ConfigError, match="--set stages.first.settings.txt=1: unknown setting"):
        fake.plan("stages.first.settings.txt=1")


def test_an_unknown_recipe(fake: Pipeline) -> None:
    with pytest.raises(ConfigError, match="no recipe 'fke' in .*known are fake. Did you mean"):
        find_recipe("fke", fake.recipes)
    with pytest.raises(ConfigError, match="there is none at all"):
        find_recipe("fake", fake.out)


def test_a_recipe_s_name_leads_nowhere_else(fake: Pipeline) -> None:
    with pytest.raises(ConfigError, match="There is no recipe"):
        find_recipe("../recipes/fake", fake.recipes)


# What comes with kdcache


def test_there_are_recipes() -> None:
    assert "efficient_rnnt" in SHIPPED


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_recipe_is_right(name: str, small: bool, tmp_path: Path) -> None:
    plan = make_plan(load_recipe(default_recipes() / name, small=small), tmp_path)
    assert [job.kind_name for job in plan.jobs].count("table") >= 1
    assert (default_recipes() / name / "README.md").is_file()


# Its parts


def test_merging() -> None:
    below = {"a": {"b": 1, "c": 2}, "d": [1, 2], "e": 3}
    assert merged(below, {"a": {"b": None, "x": 4}, "d": [9]}) == {
        "a": {"c": 2, "x": 4},
        "d": [9],
        "e": 3,
    }


def test_expressions_in_expressions() -> None:
    found = {"inner": "key", "outer[key]": 5, "many": [1, 2], "yes": True}.__getitem__
    assert substituted("${outer[${inner}]}", found) == 5
    assert substituted(["${many}", 3, ["${many}"]], found) == [1, 2, 3, [1, 2]]
    assert substituted("is ${yes}", found) == "is true"
