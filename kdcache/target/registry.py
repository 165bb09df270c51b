"""Targets by kind, and the specification of one from what a user wrote.

A kind is built in, an entry point of the group ``kdcache.targets``, or ``module:Class``. A
target's class is called with its settings as keywords.
"""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from kdcache.codec import make_codec
from kdcache.errors import ConfigError, did_you_mean
from kdcache.target.full_sum import FullSumTarget
from kdcache.target.hypotheses import HypothesesTarget
from kdcache.target.lattice import LatticeTarget
from kdcache.target.posterior import DecoderLogitsTarget, EncoderLogitsTarget
from kdcache.target.protocol import Target
from kdcache.target.vector import FeaturesTarget, FrameLogitsTarget, HiddenTarget
from kdcache.types import TargetSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

GROUP = "kdcache.targets"

TARGETS: dict[str, Callable[..., Any]] = {
    made.kind: made
    for made in (
        DecoderLogitsTarget,
        EncoderLogitsTarget,
        FeaturesTarget,
        FrameLogitsTarget,
        FullSumTarget,
        HiddenTarget,
        HypothesesTarget,
        LatticeTarget,
    )
}

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_OWN_KEYS = ("name", "kind", "record", "settings", "codec")


def target_kinds() -> list[str]:
    """Kinds that can be asked for by name, sorted."""
    return sorted({*TARGETS, *entry_points(group=GROUP).names})


def target_spec(given: str | Mapping[str, Any]) -> TargetSpec:
    """The full specification of a target: defaults filled in, everything checked.

    Args:
        given: a kind, such as ``lattice``; or a mapping with ``kind`` and perhaps ``name``,
            ``codec`` (settings or a codec's name) and the kind's own settings, either beside
            them or under ``settings``.

    Raises:
        ConfigError: unknown kind, setting or codec, or a value out of range.
    """
    entry = {"kind": given} if isinstance(given, str) else dict(given)
    kind = entry.get("kind", entry.get("name"))
    if not isinstance(kind, str):
        raise ConfigError(f"A target needs a kind, such as lattice; got {given!r}.")
    target = _make(kind, _settings_of(entry, kind))
    codec = entry.get("codec") or target.default_codec()
    codec = {"name": codec} if isinstance(codec, str) else codec
    if not isinstance(codec, dict):
        raise ConfigError(f"codec of target {kind!r} is {codec!r}; expected settings or a name.")
    return TargetSpec(
        name=_parse_name(entry.get("name", kind.rpartition(":")[2])),
        kind=kind,
        record=_parse_record(entry.get("record", target.record), kind, target),
        settings=target.settings(),
        codec=make_codec(target.record, codec).to_dict(),
    )


def make_target(spec: TargetSpec) -> Target:
    """The target that ``spec`` describes.

    Raises:
        ConfigError: unknown kind or setting, or a value out of range.
    """
    target = _make(spec.kind, spec.settings)
    _parse_record(spec.record, spec.kind, target)
    return target


def _settings_of(entry: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Settings beside the keys that every target has, and those under ``settings``."""
    nested = entry.get("settings") or {}
    if not isinstance(nested, dict):
        raise ConfigError(f"settings of target {kind!r} are {nested!r}; expected a mapping.")
    beside = {key: value for key, value in entry.items() if key not in _OWN_KEYS}
    twice = sorted(nested.keys() & beside)
    if twice:
        raise ConfigError(f"target {kind!r} has {twice[0]} both beside and under settings.")
    return {**nested, **beside}


def _make(kind: str, settings: Mapping[str, Any]) -> Target:
    make = _factory(kind)
    _check_settings(kind, settings, make)
    try:
        target = make(**settings)
    except TypeError as error:
        raise ConfigError(f"Target {kind!r} does not accept {dict(settings)}: {error}.") from error
    if not isinstance(target, Target):
        raise ConfigError(
            f"{kind!r} makes a {type(target).__name__}, which is no kdcache.target.Target."
        )
    return target


def _check_settings(kind: str, settings: Mapping[str, Any], make: Callable[..., Any]) -> None:
    """Refuse settings that ``make`` does not know, where it says what it knows."""
    try:
        parameters = inspect.signature(make).parameters.values()
    except (TypeError, ValueError):
        return
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return
    known = [parameter.name for parameter in parameters]
    for key in settings:
        if key not in known:
            raise ConfigError(
                f"Target {kind!r} has no setting {key!r}; known: {', '.join(known) or 'none'}."
                + did_you_mean(key, [*known, *_OWN_KEYS])
            )


def _factory(kind: str) -> Callable[..., Any]:
    if kind in TARGETS:
        return TARGETS[kind]
    found = {point.name: point.value for point in entry_points(group=GROUP)}
    name = found.get(kind, kind)
    if ":" not in name:
        raise ConfigError(
            f"Unknown target {kind!r}; known: {', '.join(target_kinds())}."
            + did_you_mean(kind, target_kinds())
        )
    module, _, attribute = name.partition(":")
    try:
        made: Callable[..., Any] = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"Target {name!r} cannot be imported ({error}); expected module:Class."
        ) from error
    return made


def _parse_name(name: object) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(
            f"Target name {name!r} cannot name columns; use letters, digits, _ and -."
        )
    return name


def _parse_record(record: object, kind: str, target: Target) -> str:
    if record != target.record:
        raise ConfigError(f"Target {kind!r} makes {target.record!r} records, not {record!r}.")
    return target.record
