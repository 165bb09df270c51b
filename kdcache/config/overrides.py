"""``--set a.b=c``: settings from the command line, laid over those of a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdcache.config.document import Location, describe, parse_value
from kdcache.config.schema import locate
from kdcache.config.settings import RESOLVE, absolute
from kdcache.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import BaseModel


def apply_overrides(
    data: dict[str, Any], overrides: Sequence[str], model: type[BaseModel]
) -> tuple[dict[str, Any], dict[Location, str]]:
    """Settings with the overrides in place, and each override by the location that it sets.

    Later overrides win. Missing mappings on the way are made; whether they may be there is
    for the model to say. A number among the names is a position of a list.

    Raises:
        ConfigError: an override that is not ``name=value``, or that leads through a value
            which has no settings inside.
    """
    set_by: dict[Location, str] = {}
    merged: Any = data
    for argument in overrides:
        location, value = _parse(argument)
        merged = _replaced(merged, location, _from_here(value, location, model), argument)
        set_by[location] = argument
    return merged, set_by


def _parse(argument: str) -> tuple[tuple[str, ...], Any]:
    name, equals, text = argument.partition("=")
    parts = tuple(name.strip().split("."))
    if not equals or not all(parts):
        raise ConfigError(f"--set expects name=value, such as a.b=3, got {argument!r}.")
    value = parse_value(text, f"--set {argument}")
    if isinstance(value, dict):
        raise ConfigError(f"--set {argument}: set the parts one by one, as in {name}.part=value.")
    return parts, value


def _from_here(value: Any, location: Location, model: type[BaseModel]) -> Any:
    """Relative paths typed at a prompt mean the current folder, not the file's."""
    if isinstance(value, list):
        return [_from_here(item, (*location, i), model) for i, item in enumerate(value)]
    _, here = locate(model, _positions(location))
    if isinstance(value, str) and value and any(RESOLVE in slot.metadata for slot in here):
        return absolute(value, Path.cwd())
    return value


def _positions(location: Location) -> Location:
    """``("targets", "0")`` → ``("targets", 0)``."""
    return tuple(int(p) if isinstance(p, str) and p.isdecimal() else p for p in location)


def _replaced(old: Any, location: Location, value: Any, argument: str) -> Any:
    """A copy of ``old`` in which ``value`` stands at ``location``."""
    if not location:
        return value
    part, rest = location[0], location[1:]
    if isinstance(old, dict) or old is None:
        settings = old or {}
        return {**settings, part: _replaced(settings.get(part), rest, value, argument)}
    if isinstance(old, list):
        position = _position(part, old, argument)
        return [
            _replaced(item, rest, value, argument) if i == position else item
            for i, item in enumerate(old)
        ]
    raise ConfigError(
        f"--set {argument}: expected settings in which to set {part!r}, got {describe(old)}."
    )


def _position(part: str | int, items: list[Any], argument: str) -> int:
    text = str(part)
    if text.isdecimal() and int(text) < len(items):
        return int(text)
    raise ConfigError(
        f"--set {argument}: expected a position from 0 to {len(items) - 1}, got {text!r}."
    )
