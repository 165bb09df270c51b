"""The kinds that come with kdcache, without Ray: corpora, a training, its score, the table."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from kdcache.corpus import read_manifest
from kdcache.errors import ConfigError
from kdcache.pipeline import load_recipe, make_plan, run_plan
from kdcache.pipeline.folders import FILE
from kdcache.pipeline.kinds.extract import ExtractKind
from kdcache.pipeline.kinds.train import TrainKind
from kdcache.train import TrainSettings
from tests.unit.pipeline.conftest import quiet, ran

if TYPE_CHECKING:
    from pathlib import Path

    from kdcache.pipeline import Plan

TINY = {"hidden": 16, "layers": 1, "heads": 2, "joint": 16, "subsampling_channels": 4}
TRAIN = {
    "data": {"corpus": "${speech.train}", "tokenizer": "${tokenizer}"},
    "student": TINY,
    "batch_seconds": 6,
    "optim": {"steps": 4, "warmup": 1},
    "seed": "${seed}",
}
RECIPE: dict[str, Any] = {
    "title": "Tones",
    "ray": False,
    "stages": {
        "speech": {
            "kind": "corpus",
            "settings": {
                "manifests": {"train": "tones.jsonl"},
                "subsets": {"few": {"of": "train", "hours": 0.001}},
            },
        },
        "wrong": {"kind": "corpus", "settings": {"mismatched": {"few": "${speech.few}"}}},
        "tokenizer": {
            "kind": "tokenizer",
            "settings": {"corpus": "${speech.train}", "vocabulary": 14, "model_type": "char"},
        },
        "student": {
            "kind": "train",
            "for_each": {
                "arm": {"plain": {"prune": None}, "pruned": {"prune": {"sparsity": 0.5, "end": 3}}},
                "seed": [0],
            },
            "settings": {**TRAIN, "prune": "${arm.prune}"},
        },
        "score": {
            "kind": "score",
            "for_each": "student",
            "settings": {"student": "${student}", "manifest": "${speech.few}"},
        },
        "results": {
            "kind": "table",
            "settings": {
                "scores": ["${score[*]}"],
                "controls": {"against dense": {"arm": "plain"}},
                "notes": ["Tones, not speech."],
            },
        },
    },
}


def plan_of(folder: Path, recipe: dict[str, Any], tones: Path, *overrides: str) -> Plan:
    (folder / "recipe").mkdir(exist_ok=True)
    (folder / "recipe" / FILE).write_text(yaml.safe_dump(recipe, sort_keys=False))
    manifest = f"stages.speech.settings.manifests.train={tones / 'train.jsonl'}"
    loaded = load_recipe(folder / "recipe", overrides=(manifest, *overrides))
    return make_plan(loaded, folder / "out")


def run(plan: Plan) -> list[str]:
    return ran(run_plan(plan, quiet, lambda _: None, command="kdcache pipeline run tones"))


def test_from_a_manifest_to_the_table(tones: Path, tmp_path: Path) -> None:
    plan = plan_of(tmp_path, RECIPE, tones)
    assert len(run(plan)) == len(plan.jobs) == 8
    few, wrong = (
        read_manifest(tmp_path / "out" / d / "data/few.jsonl") for d in ("speech", "wrong")
    )
    assert sum(u.duration for u in few[:-1]) < 3.6 <= sum(u.duration for u in few)
    assert [(u.id, u.text) for u in few] == [(u.id, u.text) for u in wrong]
    plain, pruned = json.loads((tmp_path / "out" / "results.json").read_text())["arms"]
    assert plain["figures"]["sparsity"] < 0.05 < pruned["figures"]["sparsity"]
    assert pruned["figures"]["sparse_bytes"] < plain["figures"]["sparse_bytes"]
    assert pruned["changes"]["against dense"]["resampled"] == "utterances"
    page = (tmp_path / "out" / "results.md").read_text()
    assert page == plan.jobs[-1].kind.text(plan.jobs[-1].settings, plan.jobs[-1].place)
    assert "Tones, not speech." in page
    assert "`kdcache pipeline run tones`, kdcache 0." in page
    assert run(plan) == []
    # A setting that changes nothing of what comes out, and one that does.
    assert run(plan_of(tmp_path, RECIPE, tones, "defaults.train.threads=1")) == []
    assert run(plan_of(tmp_path, RECIPE, tones, "stages.score.settings.batch_size=2")) == [
        "score/plain/0",
        "score/pruned/0",
        "results",
    ]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "should have one of synth, digits, manifests, mismatched, got none"),
        ({"synth": {"splits": {"a": 1}}, "manifests": {"a": "b"}}, "got synth and manifests"),
        ({"manifests": {"a": "b"}, "subsets": {"c": {"of": "d", "hours": 1}}}, "got 'c' of 'd'"),
        ({"manifests": {"a": "b"}, "subsets": {"a": {"of": "a", "hours": 1}}}, "got 'a' of 'a'"),
    ],
)
def test_a_corpus_has_one_source(
    tones: Path, tmp_path: Path, settings: dict[str, Any], told: str
) -> None:
    recipe = {"title": "x", "stages": {"speech": {"kind": "corpus", "settings": settings}}}
    (tmp_path / FILE).write_text(yaml.safe_dump(recipe))
    with pytest.raises(ConfigError, match=told):
        make_plan(load_recipe(tmp_path), tmp_path / "out")


def test_a_stage_s_folder_is_not_for_a_recipe_to_choose(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="`out` is the stage's own folder"):
        TrainKind().complete({"out": "x"}, tmp_path)
    with pytest.raises(ConfigError, match="`cache.path` is within the stage's own folder"):
        ExtractKind().complete({"cache": {"path": "x"}}, tmp_path)


def test_how_many_actors_do_it_does_not_matter(tmp_path: Path) -> None:
    kind = ExtractKind()

    def decisive(**changes: Any) -> dict[str, Any]:
        values = {"teacher": {"path": "/t"}, "corpus": "/c", "targets": ["lattice"], **changes}
        settings = kind.model.model_validate(kind.complete(values, tmp_path))
        return kind.decisive(settings)

    assert decisive() == decisive(actors=9, retry_failed=True, ray={"address": "auto"})
    assert decisive() != decisive(teacher={"path": "/t", "dtype": "bfloat16"})


def test_a_training_beside_others_has_its_share_of_threads_unless_it_says_how_many() -> None:
    values = {"out": "x", "data": {"corpus": "c", "tokenizer": "t"}}
    kind, share = TrainKind(), 2
    shared = kind.beside_others(TrainSettings.model_validate(values), share)
    assert shared.threads == share
    assert kind.decisive(shared) == kind.decisive(TrainSettings.model_validate(values))
    own = TrainSettings.model_validate({**values, "threads": 5})
    assert kind.beside_others(own, share) is own
    elsewhere = TrainSettings.model_validate({**values, "ray_address": "head:6379"})
    assert kind.beside_others(elsewhere, share) is elsewhere
