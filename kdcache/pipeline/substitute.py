"""``${…}`` in a recipe: variables, parameters, and outputs of stages above.

A string that is nothing but one expression becomes what that stands for, a number or a list as
it may be; within other text it is written out. Expressions may stand in one another, as in
``${cache[lattice=${arm.lattice}].cache}``; the inner is replaced first. Nothing is evaluated.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from kdcache.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Lookup = Callable[[str], Any]

_INNERMOST = re.compile(r"\$\{([^${}]*)\}")


def substituted(value: Any, lookup: Lookup) -> Any:
    """A copy of ``value`` without expressions.

    Args:
        value: plain data: mappings, lists, strings, numbers.
        lookup: what an expression stands for; raises ConfigError where it stands for nothing.

    Raises:
        ConfigError: an expression cannot be read or found.
    """
    if isinstance(value, dict):
        return {key: substituted(item, lookup) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return _spliced(value, lookup)
    return _text(value, lookup) if isinstance(value, str) else value


def follow(values: Mapping[str, Any], path: str, what: str) -> Any:
    """The value at a dotted path.

    Raises:
        ConfigError: there is none.
    """
    found: Any = values
    for part in path.split("."):
        if not isinstance(found, dict) or part not in found:
            known = list(map(str, found)) if isinstance(found, dict) else []
            hint = did_you_mean(part, known) or (f" Known: {', '.join(known)}." if known else "")
            raise ConfigError(f"${{{what}.{path}}}: there is no {part!r} there.{hint}")
        found = found[part]
    return found


def _spliced(items: list[Any] | tuple[Any, ...], lookup: Lookup) -> list[Any]:
    """A list; where an item is an expression that stands for many, all of them are in it."""
    out: list[Any] = []
    for item in items:
        found = substituted(item, lookup)
        many = isinstance(item, str) and isinstance(found, list)
        out.extend(found if many else [found])
    return out


def _text(text: str, lookup: Lookup) -> Any:
    while match := _INNERMOST.search(text):
        found = lookup(match[1].strip())
        if match[0] == text:
            return found
        if isinstance(found, dict | list):
            raise ConfigError(
                f"{match[0]} stands for {len(found)} values, which cannot be written into "
                f"{text!r}; name one of them."
            )
        text = text[: match.start()] + _written(found) + text[match.end() :]
    if "${" in text:
        raise ConfigError(f"{text!r} has a ${{ that is not closed; write it as ${{name}}.")
    return text


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
