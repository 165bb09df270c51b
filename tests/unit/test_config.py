"""Configuration files: what is read, what is refused, and in which words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError, field_validator

from kdcache.config import ConfigLocation, ConfigPath, Settings, load_config
from kdcache.errors import ConfigError


class Teacher(Settings):
    path: ConfigPath
    """the teacher's folder. Anything that transformers loads."""
    batch: int = Field(8, ge=1)


class Adam(Settings):
    kind: Literal["adam"]
    rate: float = 1e-3


class Sgd(Settings):
    kind: Literal["sgd"]
    momentum: float = 0.9


class Target(Settings):
    name: str
    settings: dict[str, Any] = Field(default_factory=dict)


class Recipe(Settings):
    teacher: Teacher
    cache: ConfigLocation = "cache"
    beta: float = 0.5
    layout: Literal["zarr", "webdataset"] = "zarr"
    optimiser: Annotated[Adam | Sgd, Field(discriminator="kind")] | None = None
    targets: tuple[Target, ...] = ()
    manifests: list[ConfigPath] = Field(default_factory=list)
    workers: int | None = None
    actors: int | Literal["auto"] = "auto"
    corpora: ConfigPath | tuple[ConfigPath, ...] = ()
    seed: int = 0

    @field_validator("seed")
    @classmethod
    def _even(cls, value: int) -> int:
        if value % 2:
            raise ValueError(f"seeds are even here, got {value}")
        return value

    @field_validator("beta")
    @classmethod
    def _positive(cls, value: float) -> float:
        if value < 0:
            raise ValueError(f"should not be negative, got {value}")
        return value


MINIMAL = "teacher: {path: t}\n"


@pytest.fixture
def load(tmp_path: Path) -> Any:
    """Writes a configuration and loads it."""

    def write_and_load(text: str, *overrides: str) -> Recipe:
        file = tmp_path / "recipe.yaml"
        file.write_text(text, encoding="utf-8")
        return load_config(file, Recipe, overrides)

    return write_and_load


@pytest.fixture
def refused(load: Any, tmp_path: Path) -> Any:
    """The message with which a configuration is refused; the file is called FILE in it."""

    def message(text: str, *overrides: str) -> str:
        with pytest.raises(ConfigError) as caught:
            load(text, *overrides)
        return caught.value.message.replace(str(tmp_path / "recipe.yaml"), "FILE")

    return message


# What is read


def test_defaults(load: Any) -> None:
    recipe = load(MINIMAL)
    assert (recipe.beta, recipe.layout, recipe.teacher.batch) == (0.5, "zarr", 8)


def test_settings_are_frozen(load: Any) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load(MINIMAL).beta = 1.0


def test_a_whole_recipe(load: Any) -> None:
    recipe = load(
        "teacher:\n  path: t\nbeta: 1\nlayout: webdataset\noptimiser: {kind: sgd}\n"
        "targets:\n- name: lattice\n  settings: {top_k: 8}\n"
    )
    assert recipe.beta == 1.0
    assert isinstance(recipe.optimiser, Sgd)
    assert recipe.targets == (Target(name="lattice", settings={"top_k": 8}),)


@pytest.mark.parametrize("text", ["1e-3", "1.0e-3", "1E-3", ".1e-2", "0.001"])
def test_numbers_with_exponents(load: Any, text: str) -> None:
    recipe = load(f"{MINIMAL}targets: [{{name: a, settings: {{x: {text}}}}}]")
    assert recipe.targets[0].settings == {"x": 0.001}


@pytest.mark.parametrize("text", ["'1e-3'", "e3", "1e", "a1e-3", "1e-3s"])
def test_what_only_looks_like_a_number_stays_text(load: Any, text: str) -> None:
    recipe = load(f"{MINIMAL}targets: [{{name: a, settings: {{x: {text}}}}}]")
    assert recipe.targets[0].settings == {"x": text.strip("'")}


def test_a_byte_order_mark_is_no_key(load: Any) -> None:
    assert load("\ufeff" + MINIMAL).teacher.batch == 8


def test_merge_keys_may_be_overridden(load: Any) -> None:
    recipe = load(
        "teacher: {path: t}\ntargets:\n- &a {name: x, settings: {k: 1}}\n- {<<: *a, name: y}\n"
    )
    assert [target.name for target in recipe.targets] == ["x", "y"]
    assert recipe.targets[1].settings == {"k": 1}


# Paths


def test_relative_paths_are_the_file_s(load: Any, tmp_path: Path) -> None:
    recipe = load(MINIMAL + "cache: ../c\nmanifests: [a.jsonl, /b.jsonl]\n")
    assert recipe.teacher.path == tmp_path / "t"
    assert recipe.cache == str(tmp_path / "../c")
    assert recipe.manifests == [tmp_path / "a.jsonl", Path("/b.jsonl")]


def test_a_default_path_is_the_file_s_too(load: Any, tmp_path: Path) -> None:
    assert load(MINIMAL).cache == str(tmp_path / "cache")


@pytest.mark.parametrize("url", ["s3://bucket/a/b", "memory://x", "file:///a"])
def test_a_url_stays(load: Any, url: str) -> None:
    assert load(f"{MINIMAL}cache: {url}\n").cache == url


def test_home_is_expanded(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert load("teacher: {path: ~/t}").teacher.path == Path("/home/ada/t")


def test_a_file_given_by_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "r.yaml").write_text(MINIMAL)
    monkeypatch.chdir(tmp_path)
    assert load_config("sub/r.yaml", Recipe).teacher.path == tmp_path / "sub" / "t"


def test_a_model_made_in_code_keeps_its_paths() -> None:
    assert Teacher(path=Path("x/y")).path == Path("x/y")


def test_an_empty_path(refused: Any) -> None:
    assert refused("teacher: {path: ''}") == (
        "FILE, line 1: 'teacher.path' should be a path, got an empty string."
    )


@pytest.mark.parametrize(("text", "got"), [("[1]", "a list"), ("3", "3"), ("{a: b}", "a mapping")])
def test_a_path_of_another_type(refused: Any, text: str, got: str) -> None:
    assert refused(f"teacher: {{path: {text}}}") == (
        f"FILE, line 1: 'teacher.path' should be a path, got {got}."
    )


# Overrides


def test_overrides_win_and_the_last_wins_most(load: Any) -> None:
    recipe = load(MINIMAL + "beta: 1\n", "beta=2", "beta=3", "teacher.batch=4")
    assert (recipe.beta, recipe.teacher.batch) == (3.0, 4)


def test_an_override_makes_what_is_not_there(load: Any) -> None:
    recipe = load("", "teacher.path=/t", "optimiser.kind=adam", "optimiser.rate=1e-4")
    assert recipe.optimiser == Adam(kind="adam", rate=1e-4)


def test_an_override_inside_a_list(load: Any) -> None:
    text = MINIMAL + "targets: [{name: a}, {name: b}]\n"
    recipe = load(text, "targets.1.settings.top_k=4")
    assert [target.settings for target in recipe.targets] == [{}, {"top_k": 4}]


def test_an_override_may_be_null_or_hold_an_equals_sign(load: Any) -> None:
    recipe = load(MINIMAL + "workers: 3\n", "workers=null", "teacher.path=/a=b")
    assert recipe.workers is None
    assert recipe.teacher.path == Path("/a=b")


def test_paths_of_overrides_are_the_current_folder_s(
    load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    recipe = load(MINIMAL, "teacher.path=t", "manifests=[a, /b]", "cache=s3://x/y")
    assert recipe.teacher.path == tmp_path / "here" / "t"
    assert recipe.manifests == [tmp_path / "here" / "a", Path("/b")]
    assert recipe.cache == "s3://x/y"


def test_overrides_leave_the_file_s_own_data_alone(load: Any) -> None:
    text = MINIMAL + "targets: [{name: a, settings: {k: 1}}]\n"
    assert load(text, "targets.0.settings.k=2").targets[0].settings == {"k": 2}
    assert load(text).targets[0].settings == {"k": 1}


@pytest.mark.parametrize("argument", ["beta", "=3", "a..b=3", ".a=3", ""])
def test_an_override_that_is_none(refused: Any, argument: str) -> None:
    expected = f"--set expects name=value, such as a.b=3, got {argument!r}."
    assert refused(MINIMAL, argument) == expected


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (
            "teacher.pth=x",
            "FILE, --set teacher.pth=x: unknown setting 'teacher.pth'."
            " Did you mean 'teacher.path'?",
        ),
        ("beta=x", "FILE, --set beta=x: 'beta' should be a number, got 'x'."),
        (
            "teacher.path.x=1",
            "--set teacher.path.x=1: expected settings in which to set 'x', got 't'.",
        ),
        ("teacher={path: x}", "--set teacher={path: x}: set the parts one by one, as in"),
        ("targets.2.name=x", "--set targets.2.name=x: expected a position from 0 to 0, got '2'."),
        ("targets.x.name=x", "--set targets.x.name=x: expected a position from 0 to 0, got 'x'."),
        ("beta=[1", "--set beta=[1, line 1 is not valid YAML:"),
    ],
)
def test_overrides_are_refused_like_settings(refused: Any, argument: str, message: str) -> None:
    assert refused(MINIMAL + "targets: [{name: a}]\n", argument).startswith(message)


# Unknown settings


def test_a_misspelt_setting(refused: Any) -> None:
    assert refused(MINIMAL + "\nbetta: 1\n") == (
        "FILE, line 3: unknown setting 'betta'. Did you mean 'beta'?"
    )


def test_a_misspelt_setting_deep_inside(refused: Any) -> None:
    text = MINIMAL + "targets:\n- name: a\n- name: b\n  setings: {}\n"
    assert refused(text) == (
        "FILE, line 5: unknown setting 'targets.1.setings'. Did you mean 'targets.1.settings'?"
    )


def test_a_misspelt_required_setting_is_told_once(refused: Any) -> None:
    assert refused("teacher: {pth: x}") == (
        "FILE, line 1: unknown setting 'teacher.pth'. Did you mean 'teacher.path'?"
    )


def test_a_setting_in_the_wrong_place(refused: Any) -> None:
    assert refused(MINIMAL + "batch: 3\n").endswith("Did you mean 'teacher.batch'?")


def test_a_setting_like_no_other(refused: Any) -> None:
    assert refused("teacher: {path: x, zzz: 1}") == (
        "FILE, line 1: unknown setting 'teacher.zzz'. Known here: batch, path."
    )


def test_a_setting_of_the_other_kind(refused: Any) -> None:
    """The nearest name is looked for in the kind that was chosen, not in all."""
    assert refused(MINIMAL + "optimiser: {kind: sgd, rat: 1}") == (
        "FILE, line 2: unknown setting 'optimiser.rat'. Known here: kind, momentum."
    )


def test_a_kind_that_does_not_exist(refused: Any) -> None:
    assert refused(MINIMAL + "optimiser: {kind: adan}") == (
        "FILE, line 2: 'optimiser.kind' should be one of 'adam', 'sgd', got 'adan'."
        " Did you mean 'adam'?"
    )


def test_no_kind_at_all(refused: Any) -> None:
    assert refused(MINIMAL + "optimiser: {rate: 1}") == (
        "FILE, line 2: the setting 'optimiser.kind' is missing."
    )


# Missing settings and wrong values


def test_a_missing_setting_says_what_it_is_for(refused: Any) -> None:
    assert refused("beta: 1\nteacher: {batch: 3}\n") == (
        "FILE, line 2: the setting 'teacher.path' is missing. It is the teacher's folder."
    )


def test_an_empty_file(refused: Any) -> None:
    assert refused("# nothing yet\n") == "FILE: the setting 'teacher' is missing."


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("beta: [1]", "'beta' should be a number, got a list."),
        ("beta: much", "'beta' should be a number, got 'much'."),
        ("beta: .nan", "'beta' should be a finite number, got nan."),
        ("beta: -1", "'beta' should not be negative, got -1.0."),
        ("seed: 3", "'seed': seeds are even here, got 3."),
        ("workers: 2.5", "'workers' should be an integer, got 2.5."),
        ("actors: x", "'actors' should be an integer or 'auto', got 'x'."),
        ("corpora: 3", "'corpora' should be a path or a list, got 3."),
        ("corpora: [3]", "'corpora.0' should be a path, got 3."),
        ("layout: zar", "'layout' should be 'zarr' or 'webdataset', got 'zar'."),
        ("targets: 3", "'targets' should be a list, got 3."),
        ("targets: [3]", "'targets.0' should be a mapping, got 3."),
        ("targets: [{name: 3}]", "'targets.0.name' should be a string, got 3."),
        ("targets: [{name: no}]", "'targets.0.name' should be a string, got False."),
    ],
)
def test_a_wrong_value(refused: Any, text: str, message: str) -> None:
    assert refused(f"{MINIMAL}{text}\n").startswith(f"FILE, line 2: {message[:40]}")


def test_a_long_value_is_cut(refused: Any) -> None:
    assert len(refused(f"{MINIMAL}beta: {'x' * 500}\n")) < 130


def test_all_mistakes_at_once_in_the_file_s_order(refused: Any) -> None:
    text = "layot: zarr\nbeta: x\nteacher: {path: t, batch: 0}\n"
    assert refused(text).splitlines() == [
        "FILE has 3 mistakes:",
        "  line 1: unknown setting 'layot'. Did you mean 'layout'?",
        "  line 2: 'beta' should be a number, got 'x'.",
        "  line 3: 'teacher.batch' should be greater than or equal to 1, got 0.",
    ]


def test_very_many_mistakes_are_counted(refused: Any) -> None:
    text = MINIMAL + "".join(f"wrong{i}: 1\n" for i in range(9))
    lines = refused(text).splitlines()
    assert (lines[0], lines[-1], len(lines)) == ("FILE has 9 mistakes:", "  and 4 more.", 7)


# Files that are no configuration


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", "FILE should hold settings (lines of 'name: value'), got a list."),
        ("word\n", "FILE should hold settings (lines of 'name: value'), got 'word'."),
        ("beta: 1\nbeta: 2\n", "FILE, line 2 is not valid YAML: the key 'beta' is given twice."),
        ("teacher: {path: a, path: b}", "FILE, line 1 is not valid YAML: the key 'path' is"),
        ("a: {b: 1\nc: 2\n", "FILE, line 2 is not valid YAML: expected ',' or '}'"),
        ("\ta: 1", "FILE, line 1 is not valid YAML: found character"),
        ("? [a, b]\n: 1", "FILE, line 1 is not valid YAML: found unhashable key."),
        ("a: 2020-13-45", "FILE is not valid YAML: month must be in 1..12."),
        ("a: *b", "FILE, line 1 is not valid YAML: found undefined alias 'b'."),
        ("a: 1\n--- \nb: 1\n", "FILE, line 2 is not valid YAML: but found another document."),
        ("a: '\x01'", "FILE is not valid YAML:"),
    ],
)
def test_text_that_is_no_configuration(refused: Any, text: str, message: str) -> None:
    assert refused(text).startswith(message)


def test_nothing_is_evaluated(refused: Any, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    message = refused(f"a: !!python/object/apply:os.mkdir ['{mark}']")
    assert "could not determine a constructor" in message
    assert not mark.exists()


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"Cannot read the configuration .*/no.yaml: No such file"
    ):
        load_config(tmp_path / "no.yaml", Recipe)


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Is a directory"):
        load_config(tmp_path, Recipe)


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        load_config(tmp_path / "x.yaml", Recipe)


def test_an_alias_of_itself_is_followed_once(refused: Any) -> None:
    assert "should be a path, got a mapping" in refused("teacher: &a {path: *a}")


# Properties

NAMES = st.text("abcdefgh_", min_size=1, max_size=12)
VALUES = st.one_of(st.integers(), st.booleans(), st.floats(allow_nan=False), st.text("xyz "))


@given(settings=st.dictionaries(NAMES, VALUES, max_size=4))
def test_what_yaml_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, settings: dict[str, Any]
) -> None:
    file = tmp_path_factory.getbasetemp() / "property.yaml"
    file.write_text(
        yaml.safe_dump({"teacher": {"path": "t"}, "targets": [{"name": "a", "settings": settings}]})
    )
    finite = {key: value for key, value in settings.items() if value not in (1e999, -1e999)}
    read = load_config(file, Recipe).targets[0].settings
    assert {key: read[key] for key in finite} == finite


@given(settings=st.dictionaries(NAMES, VALUES, min_size=1, max_size=4))
def test_an_override_reads_as_the_file_would(
    tmp_path_factory: pytest.TempPathFactory, settings: dict[str, Any]
) -> None:
    file = tmp_path_factory.getbasetemp() / "override.yaml"
    file.write_text(MINIMAL + "targets: [{name: a}]\n")
    arguments = [f"targets.0.settings.{key}={json.dumps(value)}" for key, value in settings.items()]
    expected = yaml.safe_load(json.dumps(settings))
    if all(not isinstance(value, float) for value in settings.values()):
        assert load_config(file, Recipe, arguments).targets[0].settings == expected


@given(name=NAMES.filter(lambda name: name not in Recipe.model_fields))
def test_no_unknown_setting_passes(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    file = tmp_path_factory.getbasetemp() / "unknown.yaml"
    file.write_text(f"{MINIMAL}{name}: 1\n")
    with pytest.raises(ConfigError) as caught:
        load_config(file, Recipe)
    assert f"unknown setting {name!r}" in caught.value.message
    assert "line 2" in caught.value.message
