"""The demo's result: what people read, and the keys that programs rely on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kdcache.demo.corpora import make_corpus
from kdcache.demo.recipe import load_recipe
from kdcache.demo.run import _first_hours
from kdcache.demo.table import CacheRow, DemoResult, ModelRow, demo_table
from kdcache.errors import ConfigError, InputError
from kdcache.types import AudioRef, Utterance

if TYPE_CHECKING:
    from pathlib import Path

RESULT = DemoResult(
    teacher=ModelRow(0.0123, 0.01, 0.02, 1_060_113, 4_300_000, 0.01),
    student_plain=ModelRow(0.12, 0.1, 0.14, 170_000, 700_000, 0.005),
    student_cached=ModelRow(0.08, 0.07, 0.1, 170_000, 700_000, 0.005),
    cache=CacheRow(1_234_567.8, 1.2e-4, 0.25, "zarr", 400, "ab" * 32),
    seconds=321.0,
    stages={"corpus": 20.0, "teacher": 200.0},
)


def test_the_table_shows_every_model_and_the_cache() -> None:
    lines = demo_table(RESULT).splitlines()
    assert lines[0].split() == ["WER", "95", "%", "interval", "parameters", "bytes", "real", "time"]
    assert [line.split("  ")[0] for line in lines[2:5]] == [
        "teacher",
        "student, no teacher",
        "student, from cache",
    ]
    text = "\n".join(lines)
    for part in ("1.23%", "1,060,113", "1.23 MB per hour", "1.20e-04 nats", "321 s", "teacher 200"):
        assert part in text


def test_columns_are_aligned() -> None:
    lines = demo_table(RESULT).splitlines()[:5]
    assert len({len(line) for line in lines}) == 1


def test_the_figures_have_the_documented_keys() -> None:
    figures = RESULT.to_dict()
    assert {"teacher", "student_plain", "student_cached", "cache", "seconds"} <= set(figures)
    for name in ("teacher", "student_plain", "student_cached"):
        assert {"wer", "parameters"} <= set(figures[name])
    assert {"bytes_per_hour", "mean_kl", "hours", "layout"} <= set(figures["cache"])


def test_a_recipe_is_overridden_and_checked() -> None:
    recipe = load_recipe("synthesised", ("teacher.optim.steps=7",))
    assert recipe.teacher.optim.steps == 7
    with pytest.raises(ConfigError, match="steps"):
        load_recipe("synthesised", ("teacher.optim.step=7",))


def test_missing_recordings_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDCACHE_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"make_strings\.py is not there; set KDCACHE_DATA"):
        make_corpus(load_recipe("real"), tmp_path / "corpus", lambda done, total: None)


def test_the_first_hours_of_a_corpus() -> None:
    utterances = [Utterance(str(i), AudioRef("x", duration=600.0)) for i in range(12)]
    assert [u.id for u in _first_hours(utterances, 0.5)] == ["0", "1", "2"]
    assert len(_first_hours(utterances, 99)) == 12
    assert len(_first_hours(utterances, 1e-9)) == 1
