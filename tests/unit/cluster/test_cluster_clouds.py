"""The files for `ray up`: that Ray takes them, and that they ask for what kdcache needs."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

if TYPE_CHECKING:
    from pathlib import Path

FILES = ["aws.yaml", "machines.yaml"]


def given(repository: Path, name: str) -> dict[str, Any]:
    text = (repository / "cluster" / "clouds" / name).read_text(encoding="utf-8")
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


@pytest.mark.parametrize("name", FILES)
def test_ray_takes_it(repository: Path, name: str) -> None:
    validate_config(prepare_config(given(repository, name)))


@pytest.mark.parametrize("name", FILES)
def test_ray_would_refuse_a_misspelt_one(repository: Path, name: str) -> None:
    config = given(repository, name)
    config["idle_timeout"] = 5
    with pytest.raises(jsonschema.ValidationError, match="idle_timeout"):
        validate_config(prepare_config(config))


@pytest.mark.parametrize("name", FILES)
def test_nodes_are_started_with_options_that_exist(repository: Path, name: str) -> None:
    from ray.scripts.scripts import start

    config = given(repository, name)
    for kind in ("head", "worker"):
        (command,) = (c for c in config[f"{kind}_start_ray_commands"] if "ray start" in c)
        words = shlex.split(command)
        context = start.make_context("start", words[words.index("start") + 1 :])
        assert context.params["head"] == (kind == "head")
        assert bool(context.params["address"]) == (kind == "worker")
        # A head that was given no such file would never ask for a machine.
        assert bool(context.params["autoscaling_config"]) == (kind == "head")


def test_machines_for_teachers_are_spot_and_the_head_is_not(repository: Path) -> None:
    config = given(repository, "aws.yaml")
    kinds = config["available_node_types"]
    head = kinds.pop(config["head_node_type"])
    assert "InstanceMarketOptions" not in head["node_config"]
    assert head["resources"] == {"CPU": 0}
    for kind in kinds.values():
        assert kind["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
        assert kind["min_workers"] == 0
    assert sum(kind["max_workers"] for kind in kinds.values()) <= config["max_workers"]
    assert {"GPU" in kind["resources"] for kind in kinds.values()} == {True, False}


def test_what_is_shared_is_mounted_and_seen_in_the_container(repository: Path) -> None:
    config = given(repository, "aws.yaml")
    example = yaml.safe_load((repository / "cluster" / "extract.yaml").read_text())
    assert example["teacher"]["path"].startswith("/shared/")
    assert "--volume=/shared:/shared" in config["docker"]["run_options"]
    assert config["initialization_commands"][-1].endswith(" /shared")


def test_machines_that_are_there_all_join(repository: Path) -> None:
    config = prepare_config(given(repository, "machines.yaml"))
    (kind,) = config["available_node_types"].values()
    assert kind["min_workers"] == kind["max_workers"] == len(config["provider"]["worker_ips"])
