"""Codecs by name: built in, from entry points, from a module; and what is said otherwise."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, EntryPoints
from typing import Any

import pytest

from kdcache.codec import LatticeCodec, Log8LogProb, RecordCodec, codec_names, make_codec
from kdcache.codec.lattice import LatticeCodec as Wrapped
from kdcache.errors import ConfigError


def strange(record: str, floor: float = 16.0) -> RecordCodec:
    """A third party's factory, which gives a codec under a name of its own."""
    return Named(record, f"{__name__}:strange", floor)


class Named(Wrapped):
    def __init__(self, record: str, name: str, floor: float = 16.0) -> None:
        super().__init__(Log8LogProb(floor))
        object.__setattr__(self, "record", record)
        object.__setattr__(self, "name", name)

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "name": self.name}  # type: ignore[attr-defined]


def registered(record: str) -> RecordCodec:
    return Named(record, "registered")


def not_a_codec(record: str) -> object:
    return record


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("lattice", ["fp16", "log8", "root"]),
        ("posterior", ["count", "fp16", "log8", "root"]),
        ("vector", ["codebooks", "fp16", "int8"]),
    ],
)
def test_built_in_names(kind: str, names: list[str]) -> None:
    assert codec_names(kind) == names
    for name in names:
        codec = make_codec(kind, {"name": name})
        assert isinstance(codec, RecordCodec)
        assert codec.to_dict()["name"] == name


def test_settings_reach_the_codec() -> None:
    codec = make_codec("lattice", {"name": "log8", "floor": 12})
    assert codec == LatticeCodec(Log8LogProb(12.0))
    assert codec.to_dict() == {"name": "log8", "floor": 12.0}


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("latice", {"name": "log8"}, "unknown kind of record 'latice'"),
        ("lattice", {"name": "log9"}, "Did you mean 'log8'"),
        ("lattice", {"name": "int8"}, "known: fp16, log8"),
        ("lattice", {"name": "log8", "flor": 3}, "no setting 'flor'.*Did you mean 'floor'"),
        ("lattice", {"name": "fp16", "floor": 3}, "no setting 'floor'; known: none"),
        ("lattice", {"name": "log8", "floor": 0}, "floor from 1 to 80"),
        ("lattice", {"name": "count"}, "no codec 'count' for lattice records"),
        ("lattice", {"name": "root", "bits": 4}, "no setting 'bits'; known: steps"),
        ("lattice", {"name": "root", "steps": 1}, "steps to be an integer from 2 to 1,024, got 1"),
        ("lattice", {"name": "root", "steps": True}, "steps to be an integer .* got True"),
        ("posterior", {"name": "root", "bits": 13}, "bits to be an integer from 2 to 12, got 13"),
        ("posterior", {"name": "root", "bits": 7.0}, "bits to be an integer .* got 7.0"),
        ("posterior", {"name": "count", "samples": 0}, "samples to be an integer from 1 to 4,096"),
        ("lattice", {"floor": 16}, "needs a name"),
        ("lattice", {"name": 8}, "needs a name"),
        ("lattice", {"name": "no_such_module:Codec"}, "cannot load codec"),
        ("lattice", {"name": f"{__name__}:no_such"}, "cannot load codec"),
        ("lattice", {"name": ":x"}, "cannot load codec"),
        ("lattice", {"name": f"{__name__}:not_a_codec"}, "which is no RecordCodec"),
        ("lattice", {"name": f"{__name__}:registered"}, "calls itself 'registered'"),
        ("lattice", {"name": f"{__name__}:strange", "depth": 1}, "no setting 'depth'"),
    ],
)
def test_what_cannot_be_is_one_sentence(kind: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_codec(kind, settings)


def test_a_module_and_class_are_loaded() -> None:
    codec = make_codec("lattice", {"name": f"{__name__}:strange", "floor": 9.0})
    assert codec.to_dict() == {"name": f"{__name__}:strange", "floor": 9.0}
    assert codec.record == "lattice"  # type: ignore[attr-defined]


def test_a_module_is_not_imported_unasked() -> None:
    sys.modules.pop("this", None)
    with pytest.raises(ConfigError, match="import_codecs=True"):
        make_codec("lattice", {"name": "this:Codec"}, allow_import=False)
    assert "this" not in sys.modules


def test_an_entry_point_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("registered", f"{__name__}:registered", "kdcache.codecs")
    everything = EntryPoints([point])
    monkeypatch.setattr("kdcache.codec.registry.entry_points", everything.select)
    assert codec_names("lattice") == ["fp16", "log8", "registered", "root"]
    codec = make_codec("lattice", {"name": "registered"}, allow_import=False)
    assert codec.to_dict()["name"] == "registered"
    with pytest.raises(ConfigError, match="Did you mean 'registered'"):
        make_codec("lattice", {"name": "registred"})
