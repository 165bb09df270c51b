"""The base of every settings model, and the two types of field that hold a place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationInfo

FOLDER = "folder"
"""Key of the validation context under which the configuration file's folder stands."""


class Settings(BaseModel):
    """Base of all settings: frozen, closed to unknown keys, defaults checked like input.

    A string under a field is its description, as in ``kdcache.types``.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        validate_default=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
    )


def is_url(place: str) -> bool:
    """Whether ``place`` names a storage service, such as ``s3://bucket/key``."""
    scheme, mark, _ = place.partition("://")
    return bool(mark) and scheme.isidentifier()


def absolute(place: str | Path, folder: Path) -> str:
    """``place`` with ``~`` expanded, taken from ``folder`` where it is relative; URLs stay."""
    if isinstance(place, str) and is_url(place):
        return place
    return str(folder / Path(place).expanduser())


def _resolve(value: Any, info: ValidationInfo) -> Any:
    """Applies :func:`absolute`; without a configuration file a relative path stays relative."""
    if not isinstance(value, str | Path):
        return value
    if not str(value):
        raise ValueError("should be a path, got an empty string")
    folder = (info.context or {}).get(FOLDER, Path())
    return absolute(value, folder)


RESOLVE = BeforeValidator(_resolve)
"""Marks a field as a place; overrides look for it."""

ConfigPath = Annotated[Path, RESOLVE]
"""A file or folder on this machine."""

ConfigLocation = Annotated[str, RESOLVE]
"""A file or folder on this machine, or a URL such as ``s3://bucket/prefix``."""
