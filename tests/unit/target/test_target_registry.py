from __future__ import annotations

from dataclasses import replace
from importlib.metadata import EntryPoint, EntryPoints
from typing import Any

import pytest

from kdcache.errors import ConfigError
from kdcache.target import Target, make_target, registry, target_kinds, target_spec
from kdcache.target.lattice import LatticeTarget
from kdcache.target.vector import HiddenTarget
from kdcache.types import TargetSpec

BUILT_IN = [
    "decoder_logits",
    "encoder_logits",
    "features",
    "frame_logits",
    "full_sum",
    "hidden",
    "hypotheses",
    "lattice",
]


class Halves(HiddenTarget):
    """A third party's target: hidden states with a setting of its own."""

    kind = "halves"

    def __init__(self, part: int = 1) -> None:
        object.__setattr__(self, "part", part)

    def settings(self) -> dict[str, Any]:
        return {"part": self.part}  # type: ignore[attr-defined]


def test_kinds() -> None:
    assert target_kinds() == BUILT_IN


@pytest.mark.parametrize(
    ("kind", "record", "settings", "codec"),
    [
        ("lattice", "lattice", {"top_k": 0}, "log8"),
        ("encoder_logits", "posterior", {"top_k": 8}, "log8"),
        ("decoder_logits", "posterior", {"top_k": 8}, "log8"),
        ("hidden", "vector", {}, "fp16"),
        ("features", "vector", {}, "int8"),
        ("frame_logits", "vector", {}, "fp16"),
    ],
)
def test_defaults(kind: str, record: str, settings: dict[str, int], codec: str) -> None:
    spec = target_spec(kind)
    assert (spec.name, spec.kind, spec.record) == (kind, kind, record)
    assert spec.settings == settings
    assert spec.codec["name"] == codec
    target = make_target(spec)
    assert isinstance(target, Target)
    assert (target.settings(), target.record) == (settings, record)
    assert target.default_codec()["name"] == codec


def test_a_spec_is_its_own_specification() -> None:
    for kind in BUILT_IN:
        spec = target_spec(kind)
        assert target_spec(spec.to_dict()) == spec
        assert TargetSpec.from_dict(spec.to_dict()) == spec


@pytest.mark.parametrize(
    "given",
    [
        {"kind": "lattice", "name": "dense", "top_k": 6, "codec": "fp16"},
        {"kind": "lattice", "name": "dense", "settings": {"top_k": 6}, "codec": {"name": "fp16"}},
    ],
)
def test_settings_beside_or_under(given: dict[str, Any]) -> None:
    spec = target_spec(given)
    assert spec == TargetSpec(
        name="dense",
        kind="lattice",
        record="lattice",
        settings={"top_k": 6},
        codec={"name": "fp16"},
    )
    assert make_target(spec) == LatticeTarget(top_k=6)


def test_a_name_may_be_the_kind() -> None:
    assert target_spec({"name": "hidden"}) == target_spec("hidden")


def test_codec_settings_are_filled_in() -> None:
    bare = target_spec({"kind": "lattice", "codec": {"name": "log8"}})
    assert bare.codec == target_spec("lattice").codec
    assert set(bare.codec) > {"name"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("latice", r"Unknown target 'latice'; known: decoder_logits, .* Did you mean 'lattice'\?"),
        ({}, "A target needs a kind, such as lattice"),
        ({"kind": 3}, "A target needs a kind"),
        (
            {"kind": "lattice", "topk": 3},
            r"known: top_k, epsilon, width. Did you mean 'top_k'",
        ),
        ({"kind": "lattice", "settings": {"topk": 3}}, r"Did you mean 'top_k'\?"),
        ({"kind": "lattice", "codek": "log8"}, r"Did you mean 'codec'\?"),
        ({"kind": "features", "top_k": 3}, "no setting 'top_k'; known: none"),
        ({"kind": "lattice", "top_k": -1}, "top_k is -1; expected an integer of at least 0"),
        ({"kind": "lattice", "settings": 3}, "settings of target 'lattice' are 3"),
        ({"kind": "lattice", "settings": {"top_k": 1}, "top_k": 1}, "has top_k both beside and"),
        ({"kind": "lattice", "codec": 8}, "codec of target 'lattice' is 8"),
        ({"kind": "lattice", "codec": "log9"}, "log9"),
        ({"kind": "lattice", "codec": {"name": "log8", "flor": 3}}, "flor"),
        ({"kind": "hidden", "codec": "log8"}, "log8"),
        ({"kind": "lattice", "name": "a.b"}, "'a.b' cannot name columns"),
        ({"kind": "lattice", "name": ""}, "cannot name columns"),
        ({"kind": "lattice", "record": "vector"}, "makes 'lattice' records, not 'vector'"),
        ("no.such.module:Thing", "cannot be imported .* expected module:Class"),
        ("kdcache.target.lattice:Nothing", "cannot be imported"),
        ("builtins:dict", "makes a dict, which is no kdcache.target.Target"),
        ({"kind": "builtins:dict", "any": 1}, "makes a dict, which is no kdcache.target.Target"),
        ("builtins:slice", "'builtins:slice' does not accept {}: slice expected at least 1"),
        ("math:pi", r"'math:pi' does not accept {}: 'float' object is not callable"),
    ],
)
def test_mistakes(given: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        target_spec(given)


def test_a_spec_of_another_record() -> None:
    with pytest.raises(ConfigError, match="makes 'lattice' records, not 'posterior'"):
        make_target(replace(target_spec("lattice"), record="posterior"))


def test_a_third_party_by_module_and_class() -> None:
    spec = target_spec({"kind": f"{__name__}:Halves", "part": 2})
    assert (spec.name, spec.record, spec.settings) == ("Halves", "vector", {"part": 2})
    made = make_target(spec)
    assert isinstance(made, Halves)
    assert made.settings() == {"part": 2}
    assert target_spec(spec.to_dict()) == spec


def test_a_third_party_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("halves", f"{__name__}:Halves", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: EntryPoints([point]))
    spec = target_spec({"kind": "halves", "name": "mine"})
    assert (spec.name, spec.kind, spec.settings) == ("mine", "halves", {"part": 1})
    assert isinstance(make_target(spec), Halves)
    assert target_kinds() == sorted([*BUILT_IN, "halves"])
    with pytest.raises(ConfigError, match=r"no setting 'par'; known: part. Did you mean 'part'"):
        target_spec({"kind": "halves", "par": 2})
