"""The example configuration shows every setting with its default."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import yaml

from kdcache.config import load_config
from kdcache.demo import load_recipe
from kdcache.student import StudentSettings
from kdcache.train import TrainSettings
from kdcache.train.settings import _check_learns

if TYPE_CHECKING:
    from pathlib import Path

TEXT = (files("kdcache.train") / "example.yaml").read_text()


def uncommented() -> dict[str, Any]:
    """The example with its commented-out defaults put in."""
    lines = TEXT.splitlines()[2:]
    loaded: dict[str, Any] = yaml.safe_load("\n".join(line.replace("# ", "", 1) if
        line.lstrip().startswith("# ") else line for line in lines))  # fmt: skip
    return loaded


def test_the_example_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "example.yaml"
    path.write_text(TEXT)
    settings = load_config(path, TrainSettings, ())
    assert settings.targets() == ("lattice",)
    assert settings.data.cache == str(tmp_path / "runs" / "cache")


def test_it_shows_every_setting_with_its_default() -> None:
    shown = uncommented()
    assert set(shown) == set(TrainSettings.model_fields)
    chosen = {"out", "data", "cache", "corpus", "hidden", "layers", "lattice_kl", "steps"}
    for name, field in TrainSettings.model_fields.items():
        if isinstance(shown[name], dict):
            # Of several kinds of student it shows the first.
            model = type(field.default) if name == "student" else field.annotation
            assert set(shown[name]) == set(model.model_fields)  # type: ignore[union-attr]
            for inner, inner_field in model.model_fields.items():  # type: ignore[union-attr]
                if inner not in chosen:
                    assert shown[name][inner] == inner_field.default, f"{name}.{inner}"
        elif name not in chosen:
            assert shown[name] == field.default, name


def test_the_demos_recipes_are_valid() -> None:
    for name in ("synthesised", "real"):
        recipe = load_recipe(name)
        assert (recipe.synthesised is None) != (recipe.real is None)
        assert recipe.student.loss.lattice_kl > 0
        assert recipe.teacher.student.subsampling == recipe.student.student.subsampling


def test_a_term_that_the_student_cannot_learn_is_refused() -> None:
    class Deaf(StudentSettings):
        TERMS: ClassVar[dict[str, str]] = {"ctc": ""}

    with pytest.raises(ValueError, match=r"loss\.rnnt: 0, since .* learns from ctc$"):
        _check_learns(Deaf(), "rnnt")
