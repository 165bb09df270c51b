"""The places in a stage's settings: files, folders and URLs that it names."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel

from kdcache.config.schema import locate, slots
from kdcache.config.settings import RESOLVE, absolute

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kdcache.config.document import Location


def places_in(settings: BaseModel) -> Iterator[str]:
    """Every file, folder or URL that the settings name, as text."""
    for name, field in type(settings).model_fields.items():
        here = slots(field.annotation, tuple(field.metadata))
        marked = any(RESOLVE in slot.metadata for slot in here)
        yield from _places(getattr(settings, name), marked)


def _places(value: Any, marked: bool) -> Iterator[str]:
    if isinstance(value, BaseModel):
        yield from places_in(value)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _places(item, marked)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _places(item, marked)
    elif isinstance(value, Path) or (marked and isinstance(value, str)):
        yield str(value)


def from_prompt(values: dict[str, Any], at: Location, model: type[BaseModel]) -> dict[str, Any]:
    """Settings in which a path that was typed at a prompt is taken from the current folder.

    Args:
        values: as written.
        at: where the override set one; elsewhere nothing is changed.
        model: of the settings.
    """
    _, here = locate(model, tuple(int(p) if str(p).isdecimal() else p for p in at))
    inside = [slots(kind) for slot in here for kind in get_args(slot.annotation)]
    if not any(RESOLVE in slot.metadata for slot in chain(here, *inside)):
        return values
    changed: dict[str, Any] = _changed(values, at)
    return changed


def _changed(value: Any, at: Location) -> Any:
    """``value`` with the text at ``at``, or each text of a list there, as an absolute place."""
    if at and isinstance(value, dict):
        return {k: _changed(v, at[1:]) if k == at[0] else v for k, v in value.items()}
    if at and isinstance(value, list):
        return [_changed(v, at[1:]) if str(i) == at[0] else v for i, v in enumerate(value)]
    if isinstance(value, list):
        return [_changed(item, at) for item in value]
    plain = isinstance(value, str) and value and not value.startswith("${")
    return absolute(value, Path.cwd()) if plain and not at else value
