"""Finding one's way in a settings model: which fields stand where.

pydantic reports a mistake's location through its own schema, in which the members of a union
appear as extra parts. Here a location is followed through the model's annotations, which
gives the path as the user wrote it and the fields that would have been right there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kdcache.config.document import Location


@dataclass(frozen=True)
class Slot:
    """What a place of the configuration may hold.

    Attributes:
        annotation: a type, with unions and annotations already taken apart.
        metadata: what ``Annotated`` added.
        description: the field's own, where the slot is a field.
    """

    annotation: Any
    metadata: tuple[Any, ...] = ()
    description: str = ""

    @property
    def model(self) -> type[BaseModel] | None:
        """The settings model that stands here, if it is one."""
        kind = self.annotation
        return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def slots(annotation: Any, metadata: tuple[Any, ...] = ()) -> Iterator[Slot]:
    """The alternatives of a type annotation; ``None`` is left out."""
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *more = get_args(annotation)
        yield from slots(inner, (*metadata, *more))
    elif origin in (Union, UnionType):
        for member in get_args(annotation):
            yield from slots(member, metadata)
    elif hasattr(annotation, "__value__"):
        yield from slots(annotation.__value__, metadata)
    elif annotation is not NoneType:
        yield Slot(annotation, metadata)


def fields_of(model: type[BaseModel]) -> dict[str, Slot]:
    """The settings of a model by the names that a file uses."""
    return {
        field.alias or name: Slot(field.annotation, tuple(field.metadata), field.description or "")
        for name, field in model.model_fields.items()
    }


def locate(model: type[BaseModel], location: Location) -> tuple[Location, list[Slot]]:
    """Follow pydantic's ``location``: the user's path, and what may stand at its end."""
    path: Location = ()
    here = [Slot(model)]
    for part in location:
        if after := [slot for before in here for slot in _inside(before, part)]:
            path, here = (*path, part), after
        else:
            here = _chosen(here, part)
    return path, here


def known_names(here: list[Slot]) -> list[str]:
    """Names of the settings that the models of ``here`` have, sorted."""
    return sorted({name for slot in here if slot.model for name in fields_of(slot.model)})


def known_paths(model: type[BaseModel], above: str = "") -> Iterator[str]:
    """Dotted paths of all settings below ``model``, through models only, not through lists."""
    for name, field in fields_of(model).items():
        path = f"{above}{name}"
        yield path
        for slot in slots(field.annotation, field.metadata):
            if slot.model and slot.model is not model:
                yield from known_paths(slot.model, f"{path}.")


def _inside(slot: Slot, part: str | int) -> Iterator[Slot]:
    """What may stand under ``part`` of a slot; nothing if it has no such part."""
    if slot.model:
        field = fields_of(slot.model).get(str(part))
        if field:
            yield from slots(field.annotation, field.metadata)
        return
    arguments, origin = get_args(slot.annotation), get_origin(slot.annotation)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        yield from slots(arguments[1])
    elif isinstance(part, int):
        yield from (found for kind in arguments if kind is not ... for found in slots(kind))


def _chosen(here: list[Slot], label: str | int) -> list[Slot]:
    """The union members that pydantic calls ``label``: by class name or by tag."""
    found = [slot for slot in here if slot.model and label in _labels(slot.model)]
    return found or here


def _labels(model: type[BaseModel]) -> set[Any]:
    tags = (tag for field in model.model_fields.values() for tag in get_args(field.annotation))
    return {model.__name__, *(tag for tag in tags if isinstance(tag, str))}
