"""The public names: which they are, and what it costs to have them."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from importlib import import_module
from typing import TYPE_CHECKING

import pytest

import kdcache

if TYPE_CHECKING:
    from pathlib import Path

HEAVY = {"numpy", "pyarrow", "pydantic", "ray", "torch", "transformers", "webdataset", "zarr"}


def modules_after(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter has imported after ``statement``."""
    code = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in json.loads(run.stdout)}


def test_the_names_are_pinned() -> None:
    assert kdcache.__all__ == [
        "Cache",
        "KdcacheError",
        "Utterance",
        "__version__",
        "loss",
        "open_cache",
        "stream_cache",
    ]


def test_the_names_are_sorted() -> None:
    assert kdcache.__all__ == sorted(kdcache.__all__)


@pytest.mark.parametrize("name", sorted(kdcache._HOMES))
def test_every_name_is_its_home_s(name: str) -> None:
    home = import_module(kdcache._HOMES[name])
    assert getattr(kdcache, name) is getattr(home, name)


def test_loss_is_the_room() -> None:
    assert kdcache.loss is import_module("kdcache.loss")


def test_dir_lists_the_names() -> None:
    assert set(kdcache.__all__) <= set(dir(kdcache))


def test_an_unknown_name() -> None:
    with pytest.raises(AttributeError, match="module 'kdcache' has no attribute 'open_cash'"):
        kdcache.open_cash  # noqa: B018


def test_import_is_light() -> None:
    assert not modules_after("import kdcache") & HEAVY


def test_the_errors_and_values_are_light() -> None:
    assert not modules_after("from kdcache import KdcacheError, Utterance") & HEAVY


@pytest.mark.parametrize("room", ["kdcache.store", "kdcache.codec", "kdcache.inspect.summary"])
def test_a_cache_is_read_without_torch_and_ray(room: str) -> None:
    assert not modules_after(f"import {room}") & {"torch", "ray", "transformers"}


def test_open_cache_needs_neither_torch_nor_ray() -> None:
    assert not modules_after("import kdcache; kdcache.open_cache") & {"torch", "ray"}


def test_the_version_has_one_home(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())
    assert "version" in project["project"]["dynamic"]
    dynamic = project["tool"]["setuptools"]["dynamic"]
    assert dynamic["version"] == {"attr": "kdcache.version.__version__"}


def test_the_changelog_knows_the_version(repository: Path) -> None:
    changelog = (repository / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{kdcache.__version__}]" in changelog
