"""Reading one configuration file into a settings model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError

from kdcache.config.document import read_document
from kdcache.config.mistakes import config_error
from kdcache.config.overrides import apply_overrides
from kdcache.config.settings import FOLDER, Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

SettingsT = TypeVar("SettingsT", bound=Settings)


def load_config(
    path: str | Path, model: type[SettingsT], overrides: Sequence[str] = ()
) -> SettingsT:
    """Read a YAML file, lay overrides over it and check the result.

    Args:
        path: the file.
        model: what it should hold.
        overrides: ``a.b=c`` each, the value as YAML has it.

    Raises:
        ConfigError: one sentence for each mistake (the first few), with its place.
    """
    file = Path(path).expanduser()
    document = read_document(file)
    data, set_by = apply_overrides(document.data, overrides, model)
    try:
        return model.model_validate(data, context={FOLDER: file.absolute().parent})
    except ValidationError as error:
        raise config_error(error, model, document, set_by) from None
