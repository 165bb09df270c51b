"""The settings: what may be left out, what is refused, and the example that documents them."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import pytest
import yaml

from kdcache.config import load_config
from kdcache.errors import ConfigError
from kdcache.extract import ExtractConfig

LEAST = {
    "teacher": {"path": "t"},
    "corpus": "c.jsonl",
    "cache": {"path": "k"},
    "targets": "lattice",
}


def load(tmp_path, changes=None, overrides=()):
    path = tmp_path / "extract.yaml"
    path.write_text(yaml.safe_dump({**LEAST, **(changes or {})}))
    return load_config(path, ExtractConfig, overrides)


def test_the_least_that_must_be_said(tmp_path):
    config = load(tmp_path)
    assert config.teacher.path == tmp_path / "t"
    assert config.manifests == (tmp_path / "c.jsonl",)
    assert config.cache.path == str(tmp_path / "k")
    assert config.targets == ("lattice",)
    assert (config.cache.layout, config.actors, config.threads_per_actor) == ("zarr", "auto", 1)


def test_lists_of_manifests_and_targets(tmp_path):
    targets = ["lattice", {"kind": "hidden", "name": "top", "codec": {"name": "int8"}}]
    config = load(tmp_path, {"corpus": ["a.jsonl", "b.jsonl"], "targets": targets})
    assert config.manifests == (tmp_path / "a.jsonl", tmp_path / "b.jsonl")
    assert config.targets == tuple(targets)


def test_overrides_are_taken_from_here(tmp_path):
    config = load(tmp_path, overrides=["corpus=x.jsonl", "cache.layout=webdataset", "actors=4"])
    assert config.manifests == (Path.cwd() / "x.jsonl",)
    assert (config.cache.layout, config.actors) == ("webdataset", 4)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"bach_seconds": 3}, "Did you mean 'batch_seconds'"),
        ({"cache": {"path": "k", "layout": "zar"}}, "cache.layout"),
        ({"actors": 0}, "at least 1, got 0"),
        ({"actors": "many"}, "actors"),
        ({"targets": []}, "at least one"),
        ({"corpus": []}, "at least one"),
        ({"batch_seconds": 0}, "batch_seconds"),
        ({"unit_utterances": 0}, "unit_utterances"),
        ({"teacher": {"path": "t", "device": "tpu"}}, "teacher.device"),
    ],
)
def test_mistakes_are_told_with_their_place(tmp_path, changes, told):
    with pytest.raises(ConfigError, match=re.escape(told)):
        load(tmp_path, changes)


def test_every_setting_is_described():
    def undescribed(model):
        for name, field in model.model_fields.items():
            if not field.description:
                yield f"{model.__name__}.{name}"
            if hasattr(field.annotation, "model_fields"):
                yield from undescribed(field.annotation)

    assert list(undescribed(ExtractConfig)) == []


def test_the_example_shows_every_setting_with_its_default(tmp_path):
    text = (files("kdcache.extract") / "example.yaml").read_text()
    opened = re.sub(r"^(\s*)# (?=-|  |[a-z_]+:)", r"\1", text, flags=re.MULTILINE)
    kinds = "encoder_logits|hidden|hypotheses"
    others = rf"^\s*- (frame_logits|hidden|full_sum|kind: ({kinds})).*\n(^    .*\n)*"
    opened = re.sub(others, "", opened, flags=re.MULTILINE)
    path = tmp_path / "example.yaml"
    path.write_text(text)
    shown = load_config(path, ExtractConfig)
    path.write_text(opened)
    spelt = load_config(path, ExtractConfig)
    assert spelt == shown
    assert set(yaml.safe_load(opened)) == set(ExtractConfig.model_fields)
    for name in ("teacher", "cache", "ray"):
        known = set(type(getattr(spelt, name)).model_fields)
        assert set(yaml.safe_load(opened)[name]) == known
