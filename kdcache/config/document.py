"""YAML text → plain data, and the line on which each setting stands.

Stricter than YAML asks for in one way (a key that is given twice is a mistake, not an
override) and wider in another (``1e-3`` is a number, as YAML 1.2 has it).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from kdcache.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Location = tuple[str | int, ...]
"""Where a setting stands: the keys and list positions that lead to it."""

_FLOAT = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$")


class _Loader(yaml.SafeLoader):
    """Safe YAML in which 1e-3 is a number."""


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


@dataclass(frozen=True)
class Document:
    """A parsed configuration file.

    Attributes:
        name: how messages call it.
        data: its settings.
        lines: line of each setting, counted from 1.
    """

    name: str
    data: dict[str, Any]
    lines: dict[Location, int] = field(default_factory=dict)

    def line_of(self, location: Location) -> int | None:
        """Line of the setting or, where it is not in the file, of what should hold it."""
        while location:
            if location in self.lines:
                return self.lines[location]
            location = location[:-1]
        return None


def read_document(path: Path) -> Document:
    """Read a configuration file.

    Raises:
        ConfigError: no such file, not UTF-8, not YAML, or not a mapping of settings.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text; a configuration is a YAML file.") from None
    except OSError as error:
        raise ConfigError(f"Cannot read the configuration {path}: {error.strerror}.") from None
    return parse_document(text, str(path))


def parse_document(text: str, name: str) -> Document:
    """Parse YAML text; ``name`` is how messages call it.

    Raises:
        ConfigError: see :func:`read_document`.
    """
    data, node = _parse(text, name)
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ConfigError(
            f"{name} should hold settings (lines of 'name: value'), got {describe(data)}."
        )
    return Document(name, data, dict(_lines(node, (), set())))


def parse_value(text: str, name: str) -> Any:
    """Parse one value, as a file would have it after ``name:``."""
    return _parse(text, name)[0]


def describe(value: Any) -> str:
    """A value for a message: short, and with its kind where the look does not tell."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def _parse(text: str, name: str) -> tuple[Any, yaml.Node | None]:
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None, None
        for key in _repeated(node, set()):
            raise _mistake(name, key.start_mark, f"the key {key.value!r} is given twice")
        return loader.construct_document(node), node
    except yaml.MarkedYAMLError as error:
        raise _mistake(name, error.problem_mark, error.problem or "cannot be read") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{name} is not valid YAML: {' '.join(str(error).split())}.") from None


def _mistake(name: str, mark: yaml.Mark | None, problem: str) -> ConfigError:
    line = f", line {mark.line + 1}" if mark else ""
    return ConfigError(f"{name}{line} is not valid YAML: {problem}.")


def _children(node: yaml.Node) -> Iterator[tuple[yaml.Node, str | int, yaml.Node]]:
    """(node that shows the place, key or position, value) of a mapping or list."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key, str(key.value), value
    elif isinstance(node, yaml.SequenceNode):
        for position, value in enumerate(node.value):
            yield value, position, value


# Both walks visit a node once: anchors may make a node stand in many places, or in itself.


def _lines(
    node: yaml.Node | None, location: Location, seen: set[int]
) -> Iterator[tuple[Location, int]]:
    if node is None or id(node) in seen:
        return
    seen.add(id(node))
    for place, part, value in _children(node):
        yield (*location, part), place.start_mark.line + 1
        yield from _lines(value, (*location, part), seen)


def _repeated(node: yaml.Node, seen: set[int]) -> Iterator[yaml.Node]:
    """Keys that their mapping already has."""
    if id(node) in seen:
        return
    seen.add(id(node))
    keys: set[tuple[str, str]] = set()
    for place, _, value in _children(node):
        if isinstance(node, yaml.MappingNode):
            name = (place.tag, str(place.value))
            if name in keys:
                yield place
            keys.add(name)
        yield from _repeated(value, seen)
