"""Codecs by name: built in, from an entry point, or from ``module:Class`` in a config.

A third party's factory is called as ``factory(record=kind, **settings)`` and gives a
``RecordCodec`` whose ``to_dict()["name"]`` is the name it was asked for by. Entry points are
in the group ``kdcache.codecs``. A cache names its codecs too: opening one never imports a
``module:Class`` that it names unless the caller allows it.
"""

from __future__ import annotations

import importlib
import inspect
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from kdcache.codec.hypotheses import Fp32HypothesesCodec
from kdcache.codec.lattice import LatticeCodec
from kdcache.codec.logprob import Fp16LogProb, Log8LogProb
from kdcache.codec.posterior import PosteriorCodec
from kdcache.codec.protocol import RecordCodec
from kdcache.codec.quantised import CodebookVectorCodec
from kdcache.codec.ragged import count_codec, root_codec
from kdcache.codec.root_lattice import RootLatticeCodec
from kdcache.codec.score import Fp32ScoreCodec
from kdcache.codec.vector import Fp16VectorCodec, Int8VectorCodec
from kdcache.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Factory = Callable[..., object]

ENTRY_POINT_GROUP = "kdcache.codecs"

_QUANTISERS: dict[str, Factory] = {"fp16": Fp16LogProb, "log8": Log8LogProb}
_RAGGED: dict[str, Factory] = {"root": root_codec, "count": count_codec}
_CODECS: dict[str, dict[str, Factory]] = {
    "lattice": {**_QUANTISERS, "root": RootLatticeCodec},
    "posterior": {**_QUANTISERS, **_RAGGED},
    "vector": {
        "fp16": Fp16VectorCodec,
        "int8": Int8VectorCodec,
        "codebooks": CodebookVectorCodec,
    },
    "score": {"fp32": Fp32ScoreCodec},
    "hypotheses": {"fp32": Fp32HypothesesCodec},
}
_WRAPPERS: dict[str, Factory] = {"lattice": LatticeCodec, "posterior": PosteriorCodec}


def make_codec(kind: str, settings: Mapping[str, Any], *, allow_import: bool = True) -> RecordCodec:
    """The codec that ``settings`` describe, for one kind of record.

    Args:
        kind: of record: ``lattice``, ``posterior``, ``vector``, ``score`` or ``hypotheses``.
        settings: ``name`` and the codec's own, such as ``{"name": "log8", "floor": 16}``.
        allow_import: import the module of a ``module:Class`` name. False where the settings
            come from a cache, which may be anybody's.

    Raises:
        ConfigError: an unknown kind, name or setting, or a value out of range.
    """
    if kind not in _CODECS:
        known = ", ".join(_CODECS)
        raise ConfigError(f"unknown kind of record {kind!r}; expected one of {known}.")
    name, rest = _parse_settings(settings)
    if name in _CODECS[kind]:
        made = _call(_CODECS[kind][name], name, rest)
        codec = made if isinstance(made, RecordCodec) else _WRAPPERS[kind](made)
    else:
        factory = _third_party(kind, name, allow_import)
        codec = _call(factory, name, {"record": kind, **rest})
    return _checked(codec, name)


def codec_names(kind: str) -> list[str]:
    """Names that can be asked for, for one kind of record, sorted."""
    return sorted({*_CODECS[kind], *entry_points(group=ENTRY_POINT_GROUP).names})


def _parse_settings(settings: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    rest = dict(settings)
    name = rest.pop("name", None)
    if not isinstance(name, str):
        raise ConfigError(f"a codec needs a name, such as log8; got settings {dict(settings)!r}.")
    return name, rest


def _third_party(kind: str, name: str, allow_import: bool) -> Factory:
    if ":" in name:
        return _imported(name, allow_import)
    found = list(entry_points(group=ENTRY_POINT_GROUP, name=name))
    if not found:
        known = codec_names(kind)
        hint = did_you_mean(name, known)
        raise ConfigError(f"no codec {name!r} for {kind} records; known: {', '.join(known)}.{hint}")
    factory: Factory = found[0].load()
    return factory


def _imported(name: str, allow_import: bool) -> Factory:
    if not allow_import:
        raise ConfigError(
            f"the cache was packed by codec {name!r}, whose module is not imported unasked; "
            "if you trust it, open the cache with import_codecs=True"
        )
    module, _, attribute = name.partition(":")
    try:
        factory: Factory = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"cannot load codec {name!r}: {error}") from error
    return factory


def _call(factory: Factory, name: str, settings: dict[str, Any]) -> object:
    parameters = inspect.signature(factory).parameters
    free = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    for key in settings:
        if key not in parameters and not free:
            known = ", ".join(p for p in parameters if p != "record") or "none"
            hint = did_you_mean(key, parameters)
            raise ConfigError(f"codec {name} has no setting {key!r}; known: {known}.{hint}")
    try:
        return factory(**settings)
    except TypeError as error:
        raise ConfigError(f"codec {name} does not accept {settings!r}: {error}") from error


def _checked(codec: object, name: str) -> RecordCodec:
    if not isinstance(codec, RecordCodec):
        raise ConfigError(f"codec {name!r} is a {type(codec).__name__}, which is no RecordCodec")
    if codec.to_dict().get("name") != name:
        raise ConfigError(f"codec {name!r} calls itself {codec.to_dict().get('name')!r} in to_dict")
    return codec
