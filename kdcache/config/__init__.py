"""YAML → checked, frozen settings.

A room describes its settings as a :class:`Settings` model beside the code that they steer,
with a docstring under each field; :func:`load_config` reads a file into it. Unknown keys,
wrong types, keys given twice and unknown ``--set`` paths are refused with one sentence each,
which names the file, the line and the nearest known name.

Relative paths of a :data:`ConfigPath` or :data:`ConfigLocation` field are taken from the
configuration file's folder; those of a ``--set`` override from the current folder, as
everything that is typed at a prompt. ``~`` is expanded.
"""

from __future__ import annotations

from kdcache.config.load import load_config
from kdcache.config.settings import ConfigLocation, ConfigPath, Settings

__all__ = ["ConfigLocation", "ConfigPath", "Settings", "load_config"]
